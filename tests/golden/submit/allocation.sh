#!/usr/bin/env bash
#SBATCH --job-name=small-46c312bfb9dc-1
#SBATCH --output=/shared/runs/submissions/small-46c312bfb9dc-1-%j.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=24:00:00
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --mem=500G
#SBATCH --partition=gpu
# mixgrid: the grid on Ray in one allocation; table small, snapshot d1d1d1d1d1d1
set -uo pipefail
module load cuda/12

python=/opt/env/bin/python
code=$(mktemp -d)
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e /shared/runs/submissions/small-46c312bfb9dc-1.zip "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

PATH=$(dirname "$(command -v "$python")"):$PATH
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
head="$(hostname):$((20000 + SLURM_JOB_ID % 10000))"

# On the head, which is this node, `run` leaves its process id: it is told to stop by a signal.
# shellcheck disable=SC2016 # the inner shell expands it
srun ray symmetric-run --address "$head" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus=32 --num-gpus=8 --include-dashboard=false -- \
    bash -c 'echo "$$" >"$0"; exec "$@"' "$code/run.pid" \
    "$python" -m orchestrator.cli run inputs/0-small.py --seeds 0 --storage /shared/runs --data /shared/data --device cuda --workers 2 --cpus-per-worker 4 --max-concurrent 3 --tracking-uri http://mlflow:5000 --submission small-46c312bfb9dc-1 --address "$head" &
worker=$!

is_time_over=no
trap 'is_time_over=yes; kill -TERM "$(cat "$code/run.pid")"' USR1
trap 'kill -TERM "$(cat "$code/run.pid")"' TERM INT
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
status=$?
if [[ $is_time_over == yes && $status -ne 0 ]]; then
    echo "time is nearly over: back into the queue, to go on from the checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
