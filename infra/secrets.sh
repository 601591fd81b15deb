#!/bin/sh
# Prints what infra/compose.yaml and the commands that talk to it need: fresh passwords, and where things listen.
set -eu

secret() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

cat << EOF
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(secret)$(secret)
AWS_ENDPOINT_URL_S3=http://127.0.0.1:8333
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=archipelago
AWS_SECRET_ACCESS_KEY=$(secret)
MLFLOW_TRACKING_USERNAME=admin
MLFLOW_TRACKING_PASSWORD=$(secret)
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret)
POSTGRES_PASSWORD=$(secret)
EOF
