#!/bin/sh
# Static analysis of everything here that is ours.
cd "$(dirname "$0")" || exit 1
exec cppcheck --quiet --std=c99 --enable=warning,performance,portability --inconclusive --error-exitcode=1 \
    --suppress=missingIncludeSystem -Ietsa -Iforecast_ort -Ilearn -Iquality -Iservice -DETSA_SHA256_CPU \
    etsa forecast_ort learn quality service test fuzz
