#!/bin/sh
# Put a Python of Debian 12 and the pinned wheels for aarch64 into a folder, to run answers.py under qemu-user:
#
#     sh tests/processors/aarch64.sh FOLDER && EDGE_TSFM_AARCH64=FOLDER python -m pytest -m slow tests/processors
#
# Needs Debian 12 or later with apt, dpkg, pip and qemu-aarch64-static; no root, nothing is installed.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$1
mkdir -p "$folder/lists/partial" "$folder/debs" "$folder/root/proc" "$folder/site"
folder=$(cd "$folder" && pwd)
apt="apt-get -qq -oAPT::Architecture=arm64 -oAPT::Architectures=arm64 -oDir::State::Lists=$folder/lists"
$apt update
(cd "$folder/debs" && $apt download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libstdc++6 \
  libgcc-s1 libexpat1 zlib1g libssl3 libffi8 liblzma5 libbz2-1.0 libuuid1 libsqlite3-0 libreadline8 libtinfo6 libncursesw6 libcrypt1)
for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
# ONNX Runtime reads the processor's description, which qemu before 8.1 takes from the machine below.
for core in 0 1; do
  printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\nCPU implementer\t: 0x41\n' "$core"
  printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done >"$folder/root/proc/cpuinfo"
grep -E '^(numpy|onnxruntime|click|flatbuffers|protobuf|packaging)==' "$here/constraints.txt" >"$folder/wanted.txt"
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
  --platform manylinux2014_aarch64 --dest "$folder/wheels" --requirement "$folder/wanted.txt"
for wheel in "$folder"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$folder/site"; done
