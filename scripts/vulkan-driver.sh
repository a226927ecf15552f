#!/bin/sh
# Makes sure there is a Vulkan loader, at least one driver, and a C linker, which rustup does not bring; installs what is
# not there by apt-get: Mesa's software driver, gcc.
set -eu
# The PATH of Debian's ordinary users lacks the folder of ldconfig.
PATH=$PATH:/usr/sbin:/sbin

any() {
    for file in "$@"; do [ ! -e "$file" ] || return 0; done
    return 1
}

has_loader() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'
}

has_gpu() {
    any /dev/dri/renderD* /dev/nvidiactl /dev/nvgpu* /dev/dxg
}

chosen() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]
}

# A driver is a manifest (*.json) in one of the loader's folders. Packages leave manifests of GPUs that are not here: without
# one only Mesa's software driver (lvp) counts.
has_driver() {
    for dir in /etc/vulkan/icd.d /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d; do
        any "$dir"/lvp_icd*.json && return 0
        has_gpu && any "$dir"/*.json && return 0
    done
    chosen
}

die() {
    echo "wgquant: $*" >&2
    exit 1
}

wanted=""
{ has_loader && has_driver; } || wanted="libvulkan1 mesa-vulkan-drivers"
command -v cc >/dev/null || wanted="$wanted gcc libc6-dev"
if [ -n "$wanted" ]; then
    command -v apt-get >/dev/null || die "no Vulkan driver or no C linker (cc), and no apt-get here to install:" $wanted
    sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "run as root, or install first:" $wanted
        sudo=sudo
    fi
    echo "wgquant: no Vulkan driver or no C linker (cc); installing:" $wanted >&2
    $sudo apt-get update -qq || echo "wgquant: apt-get update failed; trying with the lists there are" >&2
    # sudo hands no variables on. Another apt-get, as of a machine that has just started, is waited for.
    $sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -o DPkg::Lock::Timeout=300 \
        install -y -qq --no-install-recommends $wanted >/dev/null
fi

# The software driver before Mesa 22 has fewer storage buffers a shader than WebGPU's 8.
if ! has_gpu && ! chosen; then
    mesa=$(dpkg-query -W -f '${Version}\n' mesa-vulkan-drivers 2>/dev/null | head -n 1) || mesa=""
    case $mesa in
    1[0-9].* | 2[01].*) die "Mesa $mesa is too old for a software driver: it takes Debian 12, Ubuntu 22.04 or newer" ;;
    esac
fi
