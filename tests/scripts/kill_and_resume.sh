#!/usr/bin/env bash
# Kills a run of all phases at random moments, a hundred times or as often as the first argument says, resumes it each time,
# and compares what it ends with to a run that was never stopped. The same with blocks in files, and with a tuning.
set -euo pipefail
cd "$(dirname "$0")/../.."
EQAT_KILLS="${1:-100}" cargo test --workspace --locked --test cli -- --nocapture \
  resume::a_killed
