#!/bin/sh
# Quantizes MODEL in several ways, compares each with the original over the first WINDOWS windows of its val_ids_u16.npy,
# and prints a Markdown table. Usage: scripts/quality.sh MODEL [WINDOWS]; WGQUANT names the program, WGQUANT_DEVICE the GPU.
set -eu
model=$1
windows=${2:-32}
wgquant=${WGQUANT:-wgquant}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

value() { # key of the last JSON object in file $1; the model's keys come before the base's
    sed -n "s/^ *\"$2\": \([^,]*\),*\$/\1/p" "$1" | head -n 1
}

echo "| scheme | rotation | group | bits per parameter | perplexity ratio | mean KL, nats | same top token, % | tokens/s |"
echo "|---|---|---|--:|--:|--:|--:|--:|"
for line in "w8a8 none channel" "w8a8 hadamard channel" "w4a8 none channel" "w4a8 none 128" "w4a8 hadamard 128" \
    "w4a8 none 32" "w4a8 hadamard 32" "w4a16 none 128"; do
    set -- $line
    made="$out/$1-$2-$3"
    "$wgquant" quantize "$model" -o "$made" --scheme "$1" --rotate "$2" --group-size "$3" >/dev/null
    "$wgquant" perplexity "$made" -f "$model/val_ids_u16.npy" --base "$model" --windows "$windows" --json >"$out/r.json"
    awk -v s="$1" -v r="$2" -v g="$3" -v bits="$(value "$out/r.json" bits_per_parameter)" \
        -v ratio="$(value "$out/r.json" perplexity_ratio)" -v re="$(value "$out/r.json" perplexity_ratio_stderr)" \
        -v kl="$(value "$out/r.json" mean_kl)" -v ke="$(value "$out/r.json" mean_kl_stderr)" \
        -v top="$(value "$out/r.json" top1_agreement)" -v n="$(value "$out/r.json" tokens)" \
        -v t="$(value "$out/r.json" seconds)" 'BEGIN {
        printf "| %s | %s | %s | %.3f | %.4f ± %.4f | %.5f ± %.5f | %.2f | %d |\n", s, r, g, bits, ratio, re, kl, ke, 100 * top, n / t }'
done
echo
"$wgquant" devices | sed -n 's/^│ 0 *┆ \([^┆]*[^ ┆]\) *┆[^┆]*┆ \([a-z0-9]*\) *┆ \([^┆]*[^ ┆]\) *┆.*/Adapter: \1 (\2, \3)./p'
