#!/usr/bin/env bash
# Train over Slurm: GPUS=8 tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
set -euo pipefail
[ $# -ge 3 ] || { echo 'usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]' >&2; exit 2; }
partition=$1 job=$2 config=$3
gpus=${GPUS:-4} per_node=${GPUS_PER_NODE:-${GPUS:-4}}
export SCRIPT="$(printf '%q ' "$0" "$@")"
exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$(dirname "$0")/train.py" "$config" --launcher slurm "${@:4}"
