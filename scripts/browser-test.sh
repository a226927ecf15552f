#!/bin/sh
# Builds the page, runs it in headless Chromium, and checks what it posts: every kernel case passes or is known to fail
# (results/test-ops/expected.csv), and the quantized models stay close to the original. Writes target/browser/result.json
# and target/browser/page.png.
# Needs what browser-build.sh needs, and a Chromium (CHROMIUM=/path names another; CHROMIUM_FLAGS are added).
set -eu
cd "$(dirname "$0")/.."
out=$PWD/target/browser
port=${PORT:-8124}
seconds=${SECONDS_ALLOWED:-900}

for c in "${CHROMIUM:-}" /usr/lib/chromium/chromium "$(command -v chromium || true)" "$(command -v google-chrome || true)"; do
    if [ -n "$c" ] && [ -x "$c" ]; then chromium=$c; break; fi
done
if [ -z "${chromium:-}" ]; then
    echo "browser-test: no Chromium; apt-get install chromium, or set CHROMIUM" >&2
    exit 2
fi
[ "${1:-}" = --no-build ] || sh scripts/browser-build.sh

# Each run has its own profile. Without --enable-unsafe-webgpu a software adapter is not offered.
flags="--headless=new --no-sandbox --no-first-run --disable-background-networking --disable-component-update
    --disable-sync --disable-dev-shm-usage --hide-scrollbars --enable-unsafe-webgpu --window-size=1100,2720 ${CHROMIUM_FLAGS:-}"
profile=$(mktemp -d)
trap 'kill $server $browser 2>/dev/null || true; rm -rf "$profile"' EXIT INT TERM
server= browser=
rm -f "$out/result.json" "$out/page.png"
"$out/tool/debug/wgquant-browser-tool" serve "$out/site" "$port" "$out/result.json" &
server=$!
sleep 1
# shellcheck disable=SC2086
"$chromium" $flags --user-data-dir="$profile" --remote-debugging-port=0 \
    "http://localhost:$port/index.html?report" >"$out/chromium.log" 2>&1 &
browser=$!
waited=0
while kill -0 "$server" 2>/dev/null; do
    if [ "$waited" -ge "$seconds" ]; then
        echo "browser-test: no result after $seconds s; see $out/chromium.log" >&2
        exit 1
    fi
    sleep 1
    waited=$((waited + 1))
done
kill "$browser" 2>/dev/null || true
[ -s "$out/result.json" ] || { echo "browser-test: the server ended without a result; is port $port taken?" >&2; exit 1; }

# The same page with the recorded result, for the picture: headless Chromium takes one only of a page that is done.
cp "$out/result.json" "$out/site/result.json"
"$out/tool/debug/wgquant-browser-tool" serve "$out/site" "$port" 2>/dev/null &
server=$!
sleep 1
# shellcheck disable=SC2086
"$chromium" $flags --user-data-dir="$profile/picture" --screenshot="$out/page.png" --virtual-time-budget=5000 \
    "http://localhost:$port/index.html?show=result.json" >>"$out/chromium.log" 2>&1 || true

# A line for each case and model. KL limits as in tests/pipeline/quantize.rs: about twice what is measured.
awk '
    function value(key, text) { text = $0; sub(".*\"" key "\":\"?", "", text); sub("[\",}].*", "", text); return text }
    /"error":/ { print; bad = 1 }
    /"kernel":/ { cases[value("status")]++; if (value("status") !~ /^(Pass|Skip|ExpectedFail)$/) { print; bad = 1 } }
    /"mean_kl":/ { kl[value("name")] = value("mean_kl") }
    END {
        printf "%d cases pass, %d fail as known, %d skipped; KL W8A8 %s, W4A8 %s\n",
            cases["Pass"], cases["ExpectedFail"], cases["Skip"], kl["W8A8"], kl["W4A8 + hadamard"]
        if (cases["Pass"] < 500) { print "fewer than 500 cases pass"; bad = 1 }
        if (!(kl["W8A8"] > 0 && kl["W8A8"] < 0.003)) { print "KL of W8A8 is not in (0, 0.003)"; bad = 1 }
        if (!(kl["W4A8 + hadamard"] > 0 && kl["W4A8 + hadamard"] < 0.25)) { print "KL of W4A8 is not in (0, 0.25)"; bad = 1 }
        exit bad
    }' "$out/result.json"
[ -s "$out/page.png" ] || { echo "browser-test: Chromium made no picture" >&2; exit 1; }
echo "picture: $out/page.png"
