#!/bin/sh
# Update from a stick that carries a copy of the repository's public/ folder: the same checks as over the network, since
# nothing about the carrier is trusted. Run by udev or manually: edge-tsfm-usb-update.sh MOUNT_POINT [CONFIG]
set -eu

mount_point=${1:?"usage: $0 MOUNT_POINT [CONFIG]"}
config=${2:-/etc/edge-tsfm/device.toml}
repository=$mount_point/edge-tsfm

if [ ! -f "$repository/metadata/timestamp.json" ]; then
    echo "$0: $repository has no metadata/timestamp.json: copy the repository's public/ there" >&2
    exit 1
fi
exec edge-tsfm-device update --config "$config" --repository "$repository" --who "usb"
