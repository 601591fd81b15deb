#!/usr/bin/env bash
# Runs on each spot machine: when AWS announces that it takes the machine back, two minutes before, Ray gives it no more
# work. Fill in nothing.
set -euo pipefail
metadata=${METADATA_ADDRESS:-http://169.254.169.254}/latest

announced() {
    local token
    token=$(wget --quiet --output-document=- --timeout=2 --method=PUT \
        --header='X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") || return 1
    wget --quiet --output-document=- --timeout=2 --header="X-aws-ec2-metadata-token: $token" \
        "$metadata/meta-data/spot/instance-action"
}

until announced; do
    sleep "${WATCH_S:-5}"
done
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'AWS takes the spot machine back' \
    --deadline-remaining-seconds 110
