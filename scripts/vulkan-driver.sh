#!/bin/sh
# Makes sure there is a Vulkan loader and at least one driver; installs Mesa's software driver where there is none.
set -eu

has_loader() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1'
}

# A driver is a manifest (*.json) in one of the loader's folders whose library can be found. Mesa's packages leave
# manifests of GPUs that are not here; only the software driver (lvp) among Mesa's works everywhere.
has_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    for dir in /etc/vulkan/icd.d /usr/share/vulkan/icd.d /usr/local/share/vulkan/icd.d; do
        for name in lvp_icd nvidia_icd; do
            ls "$dir/$name"*.json >/dev/null 2>&1 && return 0
        done
    done
    return 1
}

if has_loader && has_driver; then
    exit 0
fi
# A GPU of another vendor has its driver already when a render node and a manifest are there.
if has_loader && ls /dev/dri/renderD* >/dev/null 2>&1 && ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1; then
    exit 0
fi

echo "wgquant: no Vulkan driver found; installing Mesa's software driver (mesa-vulkan-drivers)" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "wgquant: there is no apt-get here; install a Vulkan driver (for example Mesa's lavapipe) and try again" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "wgquant: run as root, or install mesa-vulkan-drivers first" >&2; exit 1; }
    sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends libvulkan1 mesa-vulkan-drivers >/dev/null
