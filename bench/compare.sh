#!/bin/sh
# Compares Keelson with a real etcd on this machine and rewrites docs/benchmarks.md and the raw figures beside it.
#
# usage: bench/compare.sh [options of `keelson bench compare`]
# Servers are pinned to core 0 and the load generator to core 1, so that the client's own cost does not hide the
# ratio; memory and CPU time are those of the server processes alone.
set -eu

cd "$(dirname "$0")/.."
. scripts/lib/common.sh
ensure_toolchain
ensure_rocksdb
etcd=$(tests/peers/build.sh etcd)

cargo build --release --bin keelson
keelson=$(target_dir)/release/keelson

csv=docs/benchmarks.csv
table=$(mktemp)
trap 'rm -f "$table"' EXIT
rm -f "$csv"
set -- --keelson "$keelson" --etcd "$etcd" --server-cores 0 --csv "$csv" --table "$table" "$@"
echo "bench/compare.sh: about 5 seconds per run, 12 rows, 2 servers; progress follows" >&2
taskset -c 1 "$keelson" bench compare "$@"

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
{
  cat docs/benchmarks.head.md
  echo
  echo "Measured $(date -u +%Y-%m-%d) at commit $(git rev-parse --short HEAD) on Linux $(uname -r), $(nproc) cores"
  echo "($cpu), file system of the data: $(stat -f -c %T "${TMPDIR:-/tmp}")."
  echo "Versions: $("$keelson" version | head -n 1); $("$etcd" --version | head -n 1)."
  echo
  echo "Command: \`bench/compare.sh\`. Raw figures of every run: \`docs/benchmarks.csv\`."
  echo
  cat "$table"
  echo
  cat docs/benchmarks.tail.md
} > docs/benchmarks.md
echo "bench/compare.sh: wrote docs/benchmarks.md and $csv" >&2
