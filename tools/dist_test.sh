#!/usr/bin/env bash
# Evaluate on several processes: tools/dist_test.sh CONFIG WORK_DIR PROCESSES [options of tools/test.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT place the processes on several machines.
set -euo pipefail
[ $# -ge 3 ] || { echo 'usage: tools/dist_test.sh CONFIG WORK_DIR PROCESSES [options of tools/test.py]' >&2; exit 2; }
config=$1 work_dir=$2 processes=$3
exec python -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$processes" \
    "$(dirname "$0")/test.py" "$config" "$work_dir" --launcher pytorch "${@:4}"
