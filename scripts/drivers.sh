#!/bin/sh
# Runs every kernel's cases in every variant on drivers other than this machine's own, and keeps the result files.
#
#   scripts/drivers.sh install               # Debian 12: unpacks the drivers below into target/drivers; needs no root
#   scripts/drivers.sh all                   # `wgquant test-ops test` on each, then docs/portability.md's tables again
#   scripts/drivers.sh swiftshader gpu:h100  # on these; gpu:NAME is the best GPU here, called NAME in the results
#   eval "$(scripts/drivers.sh env swiftshader)"; cargo test --test kernels      # the tests on one of them
#
# A result is results/test-ops/DRIVER.json; what is known to fail is in results/test-ops/expected.csv, with reasons.
# A driver that does not run here is named at the end and keeps its old result. Exit code 1 when anything is amiss.
# WGQUANT names the program, JOBS the processes at a time (2), WGQUANT_CAPS a mask: DRIVER-MASK.json.
#
#   lavapipe      Mesa's Vulkan for CPUs, as installed (make driver)
#   lavapipe-new  the same from bookworm-backports
#   baseline      lavapipe with --caps baseline: plain WebGPU's variants (lavapipe-baseline.json)
#   swiftshader   Chromium's Vulkan for CPUs: no f16, subgroups of 4, 256 invocations a workgroup
#   chromium      headless Chromium on SwiftShader, by scripts/browser-test.sh (chromium-swiftshader.json)
#   gl            Mesa's OpenGL for CPUs through EGL, as installed: no f16, no subgroups
#   gl-new        the same from bookworm-backports
set -eu
cd "$(dirname "$0")/.."

all="lavapipe lavapipe-new baseline swiftshader chromium gl gl-new"
place="$PWD/target/drivers"
libs="$place/usr/lib/x86_64-linux-gnu"

die() {
    echo "drivers.sh: $*" >&2
    exit 1
}

# Packages of Debian and its backports, by a private apt configuration: nothing is installed.
install() {
    command -v apt-get >/dev/null || die "install needs Debian 12's apt-get"
    mkdir -p "$place/apt/lists/partial" "$place/apt/archives/partial"
    cat >"$place/apt/debian.sources" <<END
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
    quiet_apt="apt-get -qq -o Dir::Etc::SourceList=$place/apt/debian.sources -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists=$place/apt/lists -o Dir::Cache=$place/apt -o APT::Sandbox::User="
    $quiet_apt update
    (
        cd "$place/apt/archives"
        new=bookworm-backports
        $quiet_apt download chromium-common mesa-vulkan-drivers/$new mesa-libgallium/$new libegl-mesa0/$new \
            libgl1-mesa-dri/$new libgbm1/$new libdrm2/$new
        for package in *.deb; do dpkg -x "$package" "$place"; done
        rm -- *.deb
    )
    manifest "$place/lavapipe.json" "$libs/libvulkan_lvp.so"
    manifest "$place/swiftshader.json" "$place/usr/lib/chromium/libvk_swiftshader.so"
    manifest "$place/egl.json" "$libs/libEGL_mesa.so.0"
}

# The manifest FILE of the driver in LIBRARY, by its absolute path.
manifest() {
    [ -e "$2" ] || die "no $2: the packages have changed"
    echo "{\"file_format_version\": \"1.0.0\", \"ICD\": {\"api_version\": \"1.3.0\", \"library_path\": \"$2\"}}" >"$1"
}

# Shell lines that choose a driver. They name the backend too, or a driver that does not load would be replaced by
# OpenGL, and a check would pass on the wrong one.
environment() {
    case $1 in
    *-new | swiftshader) [ -e "$place/egl.json" ] || die "run \`scripts/drivers.sh install\` first" ;;
    esac
    case $1 in
    lavapipe)
        for file in /usr/share/vulkan/icd.d/lvp_icd*.json; do
            [ -e "$file" ] || die "lavapipe is not installed; \`make driver\` does that"
            vulkan "$file"
        done
        ;;
    lavapipe-new) vulkan "$place/lavapipe.json" "$libs" ;;
    swiftshader) vulkan "$place/swiftshader.json" ;;
    gl) echo "export WGPU_BACKEND=gl" ;;
    gl-new)
        echo "export WGPU_BACKEND=gl LD_LIBRARY_PATH='$libs' LIBGL_DRIVERS_PATH='$libs/dri'"
        echo "export __EGL_VENDOR_LIBRARY_FILENAMES='$place/egl.json'"
        ;;
    gpu:?*) ;;
    *) die "no driver \`$1\`; there are: $all, gpu:NAME" ;;
    esac
}

# Older loaders know only the second name.
vulkan() {
    echo "export WGPU_BACKEND=vulkan VK_DRIVER_FILES='$1' VK_ICD_FILENAMES='$1' ${2:+LD_LIBRARY_PATH='$2'}"
}

# OpenGL takes any GPU there is; the software one is wanted.
check() {
    [ "$1" != chromium ] || { chromium; return; }
    driver=$1 caps=${WGQUANT_CAPS:-}
    [ "$1" != baseline ] || { driver=lavapipe; caps=baseline; }
    name=${driver#gpu:}${caps:+-$caps}
    limit=300 device=gpu
    # On OpenGL a kernel's shaders can compile for a minute; an ended process compiles again for the next case.
    case $driver in gl*) limit=1500 device=llvmpipe ;; esac
    echo "$name" >&2
    lines=$(environment "$driver") || { absent="$absent $name"; return; }
    status=0
    # The mask is in --caps.
    (
        eval "$lines"
        unset WGQUANT_CAPS
        "$program" test-ops test --device $device ${caps:+--caps "$caps"} --jobs "${JOBS:-2}" --timeout $limit \
            --baseline results/test-ops/expected.csv --output-file "$log/$name.json"
    ) >"$log/$name.txt" || status=$?
    # 1 is a case that did not end as expected, which is a result; anything else is none.
    [ "$status" -le 1 ] || { absent="$absent $name"; return; }
    tail -n 1 "$log/$name.txt" >&2
    mv "$log/$name.json" "results/test-ops/$name.json"
    [ "$status" -eq 0 ] || failed="$failed $name"
}

chromium() {
    name=chromium-swiftshader
    echo "$name" >&2
    rm -f target/browser/result.json
    CHROMIUM_FLAGS=--use-webgpu-adapter=swiftshader sh scripts/browser-test.sh >"$log/$name.txt" 2>&1 || failed="$failed $name"
    # Without a page, a toolchain or a Chromium there is no result; a page that failed posts a line of its own.
    if ! grep -q '"kernel":' target/browser/result.json 2>/dev/null; then
        failed=${failed% "$name"}
        absent="$absent $name"
        return
    fi
    tail -n 2 "$log/$name.txt" >&2
    cp target/browser/result.json "results/test-ops/$name.json"
}

case ${1:-} in
"" | -h | --help) sed -n '2,/^#   gl-new/s/^# \{0,1\}//p' "$0" ;;
install) install ;;
env) environment "${2:?which driver?}" ;;
*)
    log=$PWD/target/test-ops
    mkdir -p "$log" results/test-ops
    program=${WGQUANT:-${CARGO_TARGET_DIR:-target}/release/wgquant}
    [ -n "${WGQUANT:-}" ] || cargo build --release --locked
    # The program starts itself anew for the cases; a build meanwhile must not replace it.
    cp "$program" "$log/wgquant"
    program=$log/wgquant
    [ "$1" != all ] || set -- $all
    failed="" absent=""
    for which in "$@"; do check "$which"; done
    python3 scripts/portability.py
    [ -z "$absent" ] || echo "drivers.sh: did not run here, see target/test-ops/*.txt:$absent" >&2
    [ -z "$failed" ] || echo "drivers.sh: not as expected, see target/test-ops/*.txt:$failed" >&2
    [ -z "$absent$failed" ]
    ;;
esac
