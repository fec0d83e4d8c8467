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
# shellcheck disable=SC2317 # traps and srun call what nothing else here does
module load cuda/12

set -uo pipefail
python=/opt/env/bin/python
code=$(mktemp -d) || exit 2
trap 'rm -rf "$code"' EXIT
"$python" -m zipfile -e /shared/runs/submissions/small-46c312bfb9dc-1.zip "$code" || exit 2
cd "$code" || exit 2
export PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

# One Ray over all nodes, for this job alone: with ports and a token of its own, and on each node a folder that goes
# with it. Its sockets need a short path.
PATH=$(dirname "$(command -v "$python")"):$PATH
address=127.0.0.1
if [[ $SLURM_JOB_NUM_NODES -gt 1 ]]; then
    second=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 2p)
    address=$("$python" -m orchestrator.submit.facing "$(sinfo --noheader --nodes="$second" --format=%o)") || exit 2
fi
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))') || exit 2
unset RAY_ADDRESS
export python code address port RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 RAY_worker_maximum_startup_concurrency=8

ray_here() {
    RAY_TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/mgXXXXXX") || exit 2
    if [[ ${#RAY_TMPDIR} -gt 36 ]]; then
        rmdir "$RAY_TMPDIR"
        RAY_TMPDIR=$(mktemp -d /tmp/mgXXXXXX) || exit 2
    fi
    export RAY_TMPDIR
    # Where a step is ended before Ray has gone, nothing of it stays behind for the next job on the node.
    trap 'pkill -KILL -f "$RAY_TMPDIR/"; rm -rf "$RAY_TMPDIR"' EXIT
    on_head=()
    if [[ $SLURM_NODEID -eq 0 ]]; then on_head=(--include-dashboard=false); fi
    ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" "${on_head[@]}" \
        --temp-dir="$RAY_TMPDIR/ray" \
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
        --ray-client-server-port=$((port + 1)) --dashboard-agent-listen-port=$((port + 2)) \
        -- bash -c grid_here > >(sed --unbuffered '/[[:space:]]VINFO[[:space:]]/d') 2>&1
    status=$?
    if [[ $SLURM_NODEID -eq 0 ]]; then
        if [[ ! -e $code/run.pid ]]; then status=1; fi # Ray did not start, which it takes for success
        echo "$status" >"$code/status"
        # The other nodes would notice only after a minute that their head is gone.
        if [[ $SLURM_JOB_NUM_NODES -gt 1 ]]; then scancel --signal=TERM "$SLURM_JOB_ID.$SLURM_STEP_ID"; fi
    fi
}

# On the head, which is this node: `run` leaves its process id, by which it is told to stop.
grid_here() {
    cd "$code" || exit 2
    echo "$BASHPID" >run.pid
    if [[ -e stop ]]; then exit 130; fi
    exec "$python" -m orchestrator.cli run inputs/0-small.py --seeds 0 --storage /shared/runs --data /shared/data --device cuda --workers 2 --cpus-per-worker 4 --max-concurrent 3 --tracking-uri http://mlflow:5000 --submission small-46c312bfb9dc-1 --address "$address:$port"
}

stop() {
    touch "$code/stop"
    if [[ -s $code/run.pid ]]; then kill -TERM "$(cat "$code/run.pid")"; fi
}

export -f ray_here grid_here
srun --export=ALL --chdir=/ --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 --wait=0 \
    bash -c ray_here &
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
status=$(cat "$code/status" || echo 1)
trap '' TERM INT USR1
if [[ -n $last_call ]]; then
    kill "$last_call"
    if [[ $status -ne 0 ]]; then
        echo "time is nearly over: back into the queue, to go on from the checkpoint"
        back_into_the_queue
    fi
fi
exit "$status"
