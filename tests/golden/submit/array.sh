#!/usr/bin/env bash
#SBATCH --job-name=small-f99f187e6e93-1
#SBATCH --output=/shared/runs/submissions/small-f99f187e6e93-1-%A_%a.txt
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --time=24:00:00
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --array=0-1
# mixgrid: a trial an element, without Ray; table small, snapshot d1d1d1d1d1d1
set -uo pipefail

python=/opt/env/bin/python
code=$(mktemp -d)
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e /shared/runs/submissions/small-f99f187e6e93-1.zip "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

trials=(
    supervised-a6a8ed983ff8 # Supervised@1/3#0
    complexmix-31977ac0240b # ComplexMix@1/3#0
)
trial=${trials[$SLURM_ARRAY_TASK_ID]}
echo "trial $trial"

"$python" -m orchestrator.cli train "specs/$trial.json" \
    --storage /shared/runs --data /shared/data --device cpu --threads 1 &
worker=$!

is_time_over=no
trap 'is_time_over=yes; kill -USR1 "$worker"' USR1
trap 'kill -USR1 "$worker"' TERM INT
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
status=$?
if [[ $is_time_over == yes && $status -ne 0 ]]; then
    echo "time is nearly over: back into the queue, to go on from the checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
