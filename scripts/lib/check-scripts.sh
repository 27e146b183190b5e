#!/bin/sh
# The stage "scripts" of scripts/test: all shell scripts of the repository pass shellcheck.
set -eu

git ls-files --cached --others --exclude-standard | while read -r file; do
  if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*\b(sh|bash)$'; then
    echo "$file"
  fi
done | xargs shellcheck --external-sources
