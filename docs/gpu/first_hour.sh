#!/bin/bash
# The first hour on one NVIDIA GPU: tests and measurements, each with a limit in minutes (docs/gpu.md says what for).
#   docs/gpu/first_hour.sh              # all steps; the same command continues where it was ended
#   docs/gpu/first_hour.sh b16 train    # some steps
#   SCALE=tiny docs/gpu/first_hour.sh   # the same steps at the tiny scale on a CPU; the figures mean nothing
# PYTHON is the interpreter (python3), RESULTS the folder for logs, records and pages (results/gpu); relative paths
# begin in the checkout.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
python=${PYTHON:-python3}
results=${RESULTS:-results/gpu}
steps=" doctor compile b16 tests l14 b16-ladder b16-max-autotune shards b16-shards train open-clip "
chosen=" $* "
failed=0
for step in "$@"; do
  if [[ $steps != *" $step "* ]]; then
    echo "no step is called $step; there are$steps"
    exit 2
  fi
done
trap 'exit 130' INT  # Python ends an interrupted command by itself, after which bash would go on
mkdir -p "$results" || exit 1

# is_due NAME: whether a step is chosen and not done.
is_due() {
  [[ $chosen == "  " || $chosen == *" $1 "* ]] && [ ! -e "$results/$1.done" ]
}

# run NAME MINUTES ARGUMENTS: run Python, unless the step is done or others were chosen, and log its output.
run() {
  local name=$1 minutes=$2
  shift 2
  is_due "$name" || return
  echo "$name, at most $minutes min: $python $*"
  if timeout --foreground --kill-after=60 "${minutes}m" "$python" "$@" >> "$results/$name.log" 2>&1; then
    touch "$results/$name.done"
  else
    echo "$name failed or took too long, see $results/$name.log"
    failed=3
  fi
}

# record NAME MINUTES VERB ARGUMENTS: run a verb that writes records to RESULTS/NAME, and draw their page.
record() {
  local name=$1 minutes=$2 folder=$results/$1 resume=()
  shift 2
  is_due "$name" || return
  if compgen -G "$folder/*.json" > /dev/null; then
    resume=(--resume)
  fi
  run "$name" "$minutes" -m bench "$@" --results "$folder" "${resume[@]}"
  if compgen -G "$folder/*.json" > /dev/null; then
    "$python" -m bench report build "$folder" --out "$folder.html" >> "$folder.log" 2>&1
  fi
}

if [ "${SCALE:-}" = tiny ]; then
  light=(--set untimed_steps=2 --set timed_windows=2 --set steps_per_window=2)
  device=cpu rounds=2 images=256
  pair=(clip-tiny catlip-tiny "${light[@]}")
  larger_pair=("${pair[@]}" --set image_size=96)
  ladder=(catlip-tiny --baseline clip-tiny "${light[@]}" --extra-baseline-settings attention=fp32_softmax)
  tests=(tests/gpu -m "not gpu")
  open_clip=(--scale tiny --rounds 1)
else
  device=cuda rounds=5 images=20480
  pair=(clip-vit-b16 catlip-vit-b16)
  larger_pair=(clip-vit-l14 catlip-vit-l14)
  ladder=(catlip-vit-b16 --baseline clip-vit-b16 --extra-baseline-settings attention=fp32_softmax
    activation_checkpointing=true batch_size=64 compile=off)
  tests=(tests/gpu tests/profilers -m gpu)
  open_clip=(--set batch_size=256 --rounds 2)
fi

run doctor 3 -m bench doctor --results "$results"
if [ -e "$results/doctor.log" ]; then
  cat "$results/doctor.log"
fi
run compile 3 -c "import torch
values = torch.rand(1024, 1024, device='$device')
kernel = lambda x: (x.sigmoid() * 2 - 1).relu().sum(1)
torch.testing.assert_close(torch.compile(kernel)(values), kernel(values), rtol=1e-4, atol=1e-4)"
if [ $failed -ne 0 ]; then
  exit $failed
fi
record b16 30 measure "${pair[@]}" --rounds $rounds
run tests 15 -m pytest "${tests[@]}" -q -p no:randomly
record l14 40 measure "${larger_pair[@]}" --rounds $rounds
record b16-ladder 40 explain "${ladder[@]}" --rounds 2
record b16-max-autotune 30 measure "${pair[@]}" --rounds 1 --set compile=max-autotune
run shards 5 -m bench.measure.generated_shards "$results/shards" $images
record b16-shards 10 measure "${pair[@]}" --rounds 1 --data "$results/shards"
run train 10 -m bench train catlip-tiny --images-seen 2048 --task "Twemoji group" --out "$results/train" --resume
record open-clip 20 reference open-clip "${open_clip[@]}"
exit $failed
