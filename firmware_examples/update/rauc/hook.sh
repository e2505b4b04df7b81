#!/bin/sh
# RAUC install hook: after a new root file system is in its slot, check that the base it brings is the one that the running
# adapter is bound to. Another base is no error: the adapter is refused with 300 and the new base forecasts alone until an
# adapter for it is rolled out. Said here, so that nobody wonders.
set -eu

case ${1:-} in
slot-post-install)
    bundle=$RAUC_SLOT_MOUNT_POINT/usr/share/edge-tsfm/bundle/bundle.json
    if [ ! -f "$bundle" ]; then
        echo "edge-tsfm: the new slot has no bundle at $bundle" >&2
        exit 1
    fi
    new=$(sha256sum "$bundle" | cut -d ' ' -f 1)
    # This only informs: where the state cannot be read, the update of the operating system goes on all the same.
    now=$(edge-tsfm-device status --config "${EDGE_TSFM_DEVICE_CONFIG:-/etc/edge-tsfm/device.toml}" --json) || now=
    case $now in
    '') echo "edge-tsfm: base $new; what runs now is not known" ;;
    *"\"base\": \"$new\""*) echo "edge-tsfm: same base $new, the adapter stays" ;;
    *) echo "edge-tsfm: new base $new: the base forecasts alone until an adapter for it arrives" ;;
    esac
    ;;
*) ;;
esac
