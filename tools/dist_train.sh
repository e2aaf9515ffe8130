#!/usr/bin/env bash
# Train on several processes: tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT place the processes on several machines.
set -euo pipefail
[ $# -ge 2 ] || { echo 'usage: tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]' >&2; exit 2; }
config=$1 processes=$2
export SCRIPT="$(printf '%q ' "$0" "$@")"
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$processes" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
