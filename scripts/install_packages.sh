#!/usr/bin/env bash
# Installs the Debian packages that Systole builds on, and with the argument `test` or `bench` those that its tests or
# measurements need besides; does nothing when all are there. Uses sudo when not root.
set -euo pipefail
packages=(g++ cmake ninja-build ccache pkg-config python3 zlib1g-dev libzip-dev zstd
  libprotobuf-dev protobuf-compiler libonnx-dev libyaml-cpp-dev nlohmann-json3-dev libfmt-dev libtbb-dev libcli11-dev libstb-dev libgtest-dev libre2-dev libxxhash-dev libjs-d3 libxbyak-dev libopenmpi-dev openmpi-bin)
[ "${1:-}" = test ] && packages+=(chromium)
[ "${1:-}" = bench ] && packages+=(libbenchmark-dev npm)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "== installing ${#missing[@]} packages: ${missing[*]}"
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "scripts/install_packages.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2; exit 1; }
  sudo=sudo
fi
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
