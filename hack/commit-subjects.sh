#!/usr/bin/env bash
# Checks commit messages: Conventional Commits, a subject of at most 72 characters, an empty line before the body.
#
#   hack/commit-subjects.sh BASE             checks all commits after BASE except merges
#   hack/commit-subjects.sh --message FILE   checks the message in FILE, as Git passes it to the commit-msg hook
set -euo pipefail

types='build|chore|ci|docs|feat|fix|perf|refactor|revert|style|test'
form="^($types)(\([a-z0-9][a-z0-9._/-]*\))?!?: [^ ].*[^ .]$"
generated='^(Merge |Revert "|fixup! |squash! |amend! )'
failed=0

check() { # name, message
  local subject second
  subject=$(sed -n 1p <<<"$2")
  second=$(sed -n 2p <<<"$2")
  [[ ! $subject =~ $generated ]] || return 0
  if [[ ! $subject =~ $form ]]; then
    echo "$1: \"$subject\" is not of the form \"type(scope): subject\" without a final period. Types: ${types//|/, }" >&2
    failed=1
  fi
  if [ "${#subject}" -gt 72 ]; then
    echo "$1: the subject has ${#subject} characters, the limit is 72: \"$subject\"" >&2
    failed=1
  fi
  if [ -n "$second" ]; then
    echo "$1: line 2 must be empty, the body starts on line 3" >&2
    failed=1
  fi
}

if [ "${1:-}" = --message ]; then
  file=${2:?usage: hack/commit-subjects.sh --message FILE}
  # Git appends the diff below a scissors line when commit.verbose is set. Comments start with #.
  check "commit message" "$(sed '/^# -* >8 -*$/,$d; /^#/d' "$file" | sed '/./,$!d')"
else
  base=${1:?usage: hack/commit-subjects.sh BASE}
  git rev-parse -q --verify "$base^{commit}" >/dev/null || {
    echo "error: $base is no commit of this clone. Remedy: fetch the whole history" >&2
    exit 1
  }
  commits=$(git rev-list --no-merges --reverse "$base..HEAD")
  for commit in $commits; do
    check "${commit:0:12}" "$(git log -1 --format=%B "$commit")"
  done
  echo "commit messages: $(wc -w <<<"$commits") checked since ${base:0:12}"
fi
exit "$failed"
