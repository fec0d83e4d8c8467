#!/usr/bin/env bash
#SBATCH --job-name=small-46c312bfb9dc-1
#SBATCH --output=/shared/runs/submissions/small-46c312bfb9dc-1-%A_%a.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=12:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=2
#SBATCH --mem=64G
#SBATCH --array=0-1%4
#SBATCH --partition=gpu
#SBATCH --account=papers
# mixgrid: a trial an element, without Ray; table small, snapshot d1d1d1d1d1d1
# shellcheck disable=SC2317 # traps and srun call what nothing else here does
module load cuda/12

set -uo pipefail
python=/opt/env/bin/python
code=$(mktemp -d) || exit 2
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e /shared/runs/submissions/small-46c312bfb9dc-1.zip "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

trials=(
    supervised-a6a8ed983ff8 # Supervised@1/3#0
    complexmix-31977ac0240b # ComplexMix@1/3#0
)
trial=${trials[$SLURM_ARRAY_TASK_ID]}
echo "trial $trial"

stop() {
    pkill -USR1 -P "$worker" || kill "$worker"
}

"$python" -m torch.distributed.run --standalone --nproc-per-node=2 -m orchestrator.cli train "specs/$trial.json" \
    --storage /shared/runs --data /shared/data --device cuda --threads 4 &
worker=$!

# Slurm's warning is handed on. The job goes back into the queue once its checkpoint is safe, and however long that
# takes before its time is over.
back_into_the_queue() {
    scontrol requeue "$SLURM_JOB_ID" || echo "Slurm does not take the job back: to go on, submit again"
}
last_call=
time_is_over() {
    [[ -z $last_call ]] || return
    stop
    { sleep 240; echo "no checkpoint within 240 s"; back_into_the_queue; } &
    last_call=$!
}
trap time_is_over USR1
trap stop TERM INT
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
status=$?
trap '' TERM INT USR1
if [[ -n $last_call ]]; then
    kill "$last_call"
    if [[ $status -ne 0 ]]; then
        echo "time is nearly over: back into the queue, to go on from the checkpoint"
        back_into_the_queue
    fi
fi
exit "$status"

# Then, with the id that sbatch prints: sbatch --dependency=afterany:ID
# #!/usr/bin/env bash
# #SBATCH --job-name=small-46c312bfb9dc-1-track
# #SBATCH --output=/shared/runs/submissions/small-46c312bfb9dc-1-track-%j.txt
# #SBATCH --open-mode=append
# #SBATCH --ntasks=1
# #SBATCH --time=00:30:00
# #SBATCH --partition=gpu
# #SBATCH --account=papers
# # mixgrid: MLflow is brought up to date; table small, snapshot d1d1d1d1d1d1
# # shellcheck disable=SC2317 # traps and srun call what nothing else here does
# module load cuda/12
#
# set -uo pipefail
# python=/opt/env/bin/python
# code=$(mktemp -d) || exit 2
# trap 'rm -rf "$code"' EXIT
# "$python" -m zipfile -e /shared/runs/submissions/small-46c312bfb9dc-1.zip "$code" || exit 2
# cd "$code" || exit 2
# export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
#
# "$python" -m orchestrator.cli track inputs/0-small.py --seeds 0 --storage /shared/runs --tracking-uri http://mlflow:5000
