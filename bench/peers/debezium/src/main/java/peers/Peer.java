package peers;

import io.debezium.embedded.Connect;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.RecordChangeEvent;
import io.debezium.engine.format.ChangeEventFormat;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.connect.source.SourceRecord;

/**
 * The Debezium embedded engine with its outbox event router and an idempotent Kafka producer, until SIGTERM.
 *
 * <p>Settings: {@code pgoutput}, {@code snapshot.mode=no_data}, batches of up to 2,048 and a queue of 8,192 (its defaults),
 * a poll every 5 ms, records of a batch in flight together and all awaited before the batch is marked, offsets flushed
 * every second, {@code acks=all}, {@code linger.ms=1}.
 */
public final class Peer {
    private Peer() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> args = parse(arguments);
        KafkaProducer<byte[], byte[]> producer = producer(args.get("bootstrap-servers"));
        CountDownLatch ended = new CountDownLatch(1);
        DebeziumEngine<RecordChangeEvent<SourceRecord>> engine =
                DebeziumEngine.create(ChangeEventFormat.of(Connect.class))
                        .using(engine(args))
                        .using(new Ready())
                        .using(
                                (success, message, error) -> {
                                    if (!success) {
                                        System.err.println("the engine ended: " + message);
                                        if (error != null) {
                                            error.printStackTrace();
                                        }
                                    }
                                    ended.countDown();
                                })
                        .notifying((records, committer) -> forward(producer, records, committer))
                        .build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(engine)));
        Thread thread = new Thread(engine, "engine");
        thread.start();
        ended.await();
        producer.close();
    }

    private static void forward(
            KafkaProducer<byte[], byte[]> producer,
            List<RecordChangeEvent<SourceRecord>> records,
            DebeziumEngine.RecordCommitter<RecordChangeEvent<SourceRecord>> committer)
            throws InterruptedException {
        List<Future<RecordMetadata>> sent = new ArrayList<>(records.size());
        for (RecordChangeEvent<SourceRecord> event : records) {
            SourceRecord record = event.record();
            // Heartbeats and other changes have no routed topic.
            if (record.value() instanceof String payload) {
                ProducerRecord<byte[], byte[]> out =
                        new ProducerRecord<>(record.topic(), bytes(record.key()), bytes(payload));
                record.headers()
                        .forEach(header -> out.headers().add(header.key(), bytes(header.value())));
                sent.add(producer.send(out));
            }
        }
        try {
            for (Future<RecordMetadata> future : sent) {
                future.get();
            }
        } catch (java.util.concurrent.ExecutionException e) {
            throw new IllegalStateException("a record was not delivered", e);
        }
        for (RecordChangeEvent<SourceRecord> event : records) {
            committer.markProcessed(event);
        }
        committer.markBatchFinished();
    }

    private static byte[] bytes(Object value) {
        return value == null ? null : value.toString().getBytes(StandardCharsets.UTF_8);
    }

    private static KafkaProducer<byte[], byte[]> producer(String servers) {
        Properties settings = new Properties();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
        settings.put(ProducerConfig.ACKS_CONFIG, "all");
        settings.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, "true");
        settings.put(ProducerConfig.LINGER_MS_CONFIG, "1");
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static Properties engine(Map<String, String> args) {
        URI url = URI.create(args.get("database-url"));
        String[] user = url.getUserInfo().split(":", 2);
        Properties settings = new Properties();
        settings.put("name", "bench");
        settings.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
        settings.put("offset.storage", "org.apache.kafka.connect.storage.FileOffsetBackingStore");
        settings.put("offset.storage.file.filename", Path.of(args.get("folder"), "offsets").toString());
        settings.put("offset.flush.interval.ms", "1000");
        settings.put("database.hostname", url.getHost());
        settings.put("database.port", Integer.toString(url.getPort()));
        settings.put("database.user", user[0]);
        settings.put("database.password", user[1]);
        settings.put("database.dbname", url.getPath().substring(1));
        settings.put("topic.prefix", "bench");
        settings.put("plugin.name", "pgoutput");
        settings.put("slot.name", args.get("slot"));
        settings.put("publication.name", "bench_outbox");
        settings.put("publication.autocreate.mode", "filtered");
        settings.put("table.include.list", "public.outbox");
        settings.put("snapshot.mode", "no_data");
        settings.put("poll.interval.ms", "5");
        settings.put("tombstones.on.delete", "false");
        settings.put("transforms", "outbox");
        settings.put("transforms.outbox.type", "io.debezium.transforms.outbox.EventRouter");
        settings.put(
                "transforms.outbox.route.topic.replacement", args.get("topic-prefix") + "bench.v1");
        return settings;
    }

    private static Map<String, String> parse(String[] arguments) {
        Map<String, String> parsed = new HashMap<>();
        for (int n = 0; n + 1 < arguments.length; n += 2) {
            parsed.put(arguments[n].substring(2), arguments[n + 1]);
        }
        return parsed;
    }

    private static void stop(DebeziumEngine<?> engine) {
        try {
            engine.close();
        } catch (Exception e) {
            System.err.println("the engine did not close: " + e);
        }
    }

    /** Says so once the replication stream is polled. */
    private static final class Ready implements DebeziumEngine.ConnectorCallback {
        @Override
        public void pollingStarted() {
            System.out.println("ready");
        }
    }
}
