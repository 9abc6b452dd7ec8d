#!/bin/sh
# Turns KAFKA_* variables into server.properties, formats the log folder, then becomes the broker.
set -eu

: "${CLUSTER_ID:=5L6g3nShT-eMCtK--X86sw}"
: "${KAFKA_LOG_DIRS:=/var/lib/kafka/data}"
: "${KAFKA_HEAP_OPTS:=-Xmx1G -Xms1G}"
: "${KAFKA_JVM_PERFORMANCE_OPTS:=-XX:+UseG1GC}"
export KAFKA_LOG_DIRS

properties=/var/lib/kafka/server.properties
# These steer the JVM and the scripts; every other KAFKA_* is a setting.
not_settings='^KAFKA_(HEAP_OPTS|JVM_PERFORMANCE_OPTS|OPTS|JMX_OPTS|GC_LOG_OPTS|LOG4J_.*|VERSION)='
env | grep '^KAFKA_' | grep -Ev "$not_settings" | while IFS='=' read -r name value; do
    setting=$(printf '%s' "${name#KAFKA_}" | tr '[:upper:]' '[:lower:]' | sed 's/___/\x01/g; s/__/\x02/g; s/_/./g; s/\x01/-/g; s/\x02/_/g')
    printf '%s=%s\n' "$setting" "$value"
done > "$properties"

libs='/opt/kafka/libs/*'
java -XX:TieredStopAtLevel=1 -cp "$libs" kafka.tools.StorageTool format \
    --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$properties"
# shellcheck disable=SC2086 # options are to be split
exec java $KAFKA_HEAP_OPTS $KAFKA_JVM_PERFORMANCE_OPTS ${KAFKA_OPTS:-} \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs" kafka.Kafka "$properties"
