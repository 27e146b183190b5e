#!/bin/sh
# Compares Keelson with a real etcd on this machine and rewrites docs/benchmarks.md, the raw figures and the plots.
#
# usage: bench/compare.sh [options of `keelson bench compare`]
#   bench/compare.sh                       about five minutes, one run of each row
#   bench/compare.sh --profile full        the published figures
#   bench/compare.sh --rows put-1,T9       these rows again; the others stay as they are in the raw figures
#   bench/compare.sh --also old=/usr/bin/etcd
# Servers are pinned to core 0 and the load generator to core 1, so that the client's own cost does not hide the
# ratio; memory and CPU time are those of the server processes alone. KEELSON_BENCH_OUT names another folder than docs.
set -eu

cd "$(dirname "$0")/.."
. scripts/lib/common.sh
ensure_toolchain
ensure_rocksdb
use_shared_target
etcd=$(tests/peers/build.sh etcd)

cargo build --release --bin keelson
keelson=$(target_dir)/release/keelson

out=${KEELSON_BENCH_OUT:-docs}
mkdir -p "$out"
csv=$out/benchmarks.csv
profile=quick
chosen=
previous=
for argument in "$@"; do
  case $argument in
    -h | --help) exec "$keelson" bench compare --help ;;
    --profile=*) profile=${argument#--profile=} ;;
    --rows | --rows=*) chosen=yes ;;
  esac
  if [ "$previous" = --profile ]; then
    profile=$argument
  fi
  previous=$argument
done
# A whole comparison begins anew; chosen rows replace theirs.
if [ -z "$chosen" ]; then
  rm -f "$csv"
fi
taskset -c 1 "$keelson" bench compare --keelson "$keelson" --etcd "$etcd" --server-cores 0 --csv "$csv" "$@"

table=$(mktemp)
trap 'rm -f "$table"' EXIT
"$keelson" bench report --csv "$csv" --profile "$profile" --table "$table" --plots "$out/benchmarks"
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
{
  cat docs/benchmarks.head.md
  echo
  echo "Measured $(date -u +%Y-%m-%d) at commit $(git rev-parse --short HEAD) on Linux $(uname -r), $(nproc) cores"
  echo "($cpu), file system of the data: $(stat -f -c %T "${TMPDIR:-/tmp}")."
  echo "Versions: $("$keelson" version | head -n 1); $("$etcd" --version | head -n 1)."
  echo
  echo "Command: \`bench/compare.sh${*:+ $*}\`; one row again: \`bench/compare.sh --profile $profile --rows ROW\`."
  echo "Raw figures of every run: \`docs/benchmarks.csv\`."
  if [ "$profile" = quick ]; then
    echo
    echo "This is the quick profile: less data than the targets are stated for (lists, keys, restarts), and one run of each"
    echo "row unless the command says otherwise."
  fi
  echo
  cat "$table"
  echo
  cat docs/benchmarks.tail.md
} > "$out/benchmarks.md"
say "bench/compare.sh: wrote $out/benchmarks.md, $csv and $out/benchmarks/"
