#!/bin/sh
# Runs the stages of a test run: each into a log of its own, with a time limit and one line of result.
#
# Sourced by scripts/test after lib/common.sh. A stage is a name, a limit in minutes and a command. The summary file
# has a line per stage: name, ok or FAILED, seconds, tests passed, tests failed; .ci/run makes its table from it.

stages_failed=0

# stages_begin: makes the folder of this run's logs.
stages_begin() {
  stages_logs=$(mktemp -d "$(target_dir)/test-logs.XXXXXX")
  # Logs are read by people in files, where colours are noise.
  export CARGO_TERM_COLOR=never
  stages_summary=${KEELSON_TEST_SUMMARY:-$stages_logs/summary}
  : >"$stages_summary"
  # Logs of runs long gone.
  find "$(target_dir)" -maxdepth 1 -name 'test-logs.*' -mtime +3 -exec rm -rf {} +
}

# stage NAME MINUTES COMMAND...
stage() {
  stage_name=$1
  stage_minutes=$2
  shift 2
  stage_log=$stages_logs/$stage_name.log
  : >"$stage_log"
  stage_start=$(date +%s)
  timeout --kill-after=20 "${stage_minutes}m" "$@" >"$stage_log" 2>&1 </dev/null &
  stage_pid=$!
  # timeout gives the stage a process group of its own, which Ctrl-C does not reach; it passes on what it is sent.
  trap 'kill "$stage_pid" 2>/dev/null; exit 130' INT TERM
  stage_watch
  if wait "$stage_pid"; then stage_code=0; else stage_code=$?; fi
  stage_seconds=$(($(date +%s) - stage_start))
  # cargo ends each test program with "test result: ok. 3 passed; 0 failed; …".
  stage_passed=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$stage_log" | awk '{ n += $1 } END { print n + 0 }')
  stage_lost=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$stage_log" | awk '{ n += $1 } END { print n + 0 }')
  if [ "$stage_code" -eq 0 ]; then
    # A stage without tests of its own, such as the format, is one test.
    [ "$stage_passed" -gt 0 ] || stage_passed=1
    stage_result=ok
  else
    [ "$stage_lost" -gt 0 ] || stage_lost=1
    stage_result=FAILED
    stages_failed=$((stages_failed + 1))
  fi
  printf '%s\t%s\t%s\t%s\t%s\n' "$stage_name" "$stage_result" "$stage_seconds" "$stage_passed" "$stage_lost" >>"$stages_summary"
  printf '%-14s %-6s %3d:%02d  %s\n' "$stage_name" "$stage_result" $((stage_seconds / 60)) $((stage_seconds % 60)) \
    "$stage_passed passed, $stage_lost failed"
  [ "$stage_code" -eq 0 ] || stage_explain
}

# One changing line while a stage runs, only where somebody watches.
stage_watch() {
  [ -t 1 ] || return 0
  while kill -0 "$stage_pid" 2>/dev/null; do
    stage_seconds=$(($(date +%s) - stage_start))
    printf '\r%-14s %3d:%02d  %.60s\033[K' "$stage_name" $((stage_seconds / 60)) $((stage_seconds % 60)) \
      "$(tail -n 1 "$stage_log" | tr -d '\r\033')"
    sleep 1
  done
  printf '\r\033[K'
}

# Why a stage failed: the failures cargo lists, then the end of the log.
stage_explain() {
  case $stage_code in
    124 | 137) say "$stage_name was ended after its limit of $stage_minutes minutes" ;;
  esac
  say "---- end of $stage_log"
  tail -n 60 "$stage_log" >&2
  say "----"
}
