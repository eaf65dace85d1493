// SPDX-License-Identifier: Apache-2.0
// config: what good files become, defaults, directories, and the loader under failing allocations.
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config.h"
#include "daemon/config/config_private.h"
#include "test.h"

static struct config_errors errors;

static struct config *load_good(const char *yaml)
{
    struct config *config = NULL;
    enum status status = config_load_text("test.yaml", slice_of(yaml), &config, &errors);
    if (status != STATUS_OK && errors.count > 0)
        print_error("%u:%u: %s\n", errors.items[0].position.line, errors.items[0].position.column,
                    errors.items[0].message);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(errors.count, 0);
    assert_non_null(config);
    return config;
}

// The example of the design, without what later versions bring.
static const char design_example[] =
    "workers: auto\n"
    "journal: sluice.db\n"
    "listen: [{address: 0.0.0.0:8080}]\n"
    "admin: {address: 127.0.0.1:9440}\n"
    "services:\n"
    "  checkout:\n"
    "    routes: [{host: Shop.Example, path: /checkout}]\n"
    "    versions:\n"
    "      v1: {endpoints: [10.0.0.1:9001, 10.0.0.2:9001]}\n"
    "      v2: {endpoints: [\"unix:/run/checkout-v2.sock\"]}\n"
    "    stable: v1\n"
    "    unit: {cookie: sid}\n"
    "rollouts:\n"
    "  checkout-v2:\n"
    "    service: checkout\n"
    "    to: v2\n"
    "    stages:\n"
    "      - {weight: 1%, for: 10m}\n"
    "      - {weight: 5%, for: 1h30m, horizon: 2h}\n"
    "      - approve: {by: sre}\n"
    "      - {weight: 25%}\n"
    "      - {weight: 50.125%}\n"
    "      - {weight: 100%, soak: 2h}\n"
    "    checks: {errors: {negligible: 0.2%}, latency: {margin: 1.10}, throughput: {}}\n"
    "    undecided: rollback\n";

static void assert_near(double value, double wanted)
{
    assert_true(value > wanted - 1e-12 && value < wanted + 1e-12);
}

TEST(design_example)
{
    struct config *config = load_good(design_example);
    assert_int_equal(config->workers, 0);
    assert_string_equal(config->journal, "sluice.db");
    assert_string_equal(config->listen[0].address.text, "0.0.0.0:8080");
    assert_true(config->listen[0].address.literal);
    const struct config_service *service = config_service_find(config, "checkout");
    assert_non_null(service);
    assert_string_equal(service->routes[0].host, "shop.example");
    assert_string_equal(service->routes[0].path.text, "/checkout");
    assert_int_equal(service->version_count, 2);
    assert_int_equal(config_version_find(service, "v1")->endpoint_count, 2);
    assert_int_equal(config_version_find(service, "v2")->endpoints[0].address.addr.any.sa_family, AF_UNIX);
    assert_int_equal(service->unit.kind, CONFIG_UNIT_COOKIE);
    assert_string_equal(service->unit.name, "sid");
    assert_null(config_version_find(service, "v3"));
    const struct rollout_spec *spec = &config_rollout_find(config, "checkout-v2")->spec;
    assert_ptr_equal(config_rollout_of_service(config, "checkout"),
                     config_rollout_find(config, "checkout-v2"));
    assert_string_equal(spec->from, "v1");
    assert_string_equal(spec->to, "v2");
    assert_true(spec->keyed);
    assert_false(spec->control);
    assert_int_equal(spec->stage_count, 6);
    assert_int_equal(spec->stages[0].weight, 1000);
    assert_int_equal(spec->stages[0].min_ms, 600000);
    assert_int_equal(spec->stages[0].soak_ms, 0);
    assert_int_equal(spec->stages[1].min_ms, 5400000);
    assert_int_equal(spec->stages[1].horizon_ms, 7200000);
    assert_int_equal(spec->stages[3].horizon_ms, 3600000);
    assert_int_equal(spec->stages[2].kind, ROLLOUT_STAGE_APPROVE);
    assert_string_equal(spec->stages[2].by, "sre");
    assert_int_equal(spec->stages[4].weight, 50125);
    assert_int_equal(spec->stages[5].soak_ms, 7200000);
    assert_near(spec->errors.negligible, 0.002);
    assert_near(spec->latency.margin, 1.1);
    assert_true(spec->throughput.on);
    assert_near(spec->statuses.share, 0.1);
    assert_near(spec->errors.share, 0.3);
    assert_near(spec->errors.share + spec->latency.share + spec->throughput.share, 0.9);
    assert_int_equal(spec->errors.prove, ROLLOUT_PROVE_RATIO); // a word of it is given
    assert_int_equal(spec->undecided, ROLLOUT_UNDECIDED_ROLLBACK);
    assert_int_equal(config_rollout_find(config, "checkout-v2")->position.line, 15);
    config_destroy(config);
}

TEST(defaults)
{
    struct config *config = load_good("listen: ['127.0.0.1:0']\n"
                                      "services: {a: {versions: {only: ['x:1']}}}\n"
                                      "rollouts:\n");
    assert_int_equal(config->io, IO_KIND_AUTO);
    assert_string_equal(config->admin.text, "127.0.0.1:9440");
    assert_int_equal(config->timeouts.client_head_ms, 10000);
    assert_int_equal(config->timeouts.total_ms, 0);
    assert_int_equal(config->limits.connections, 16384);
    assert_int_equal(config->limits.request_body_bytes, 0);
    assert_int_equal(config->log.level, CONFIG_LOG_INFO);
    assert_int_equal(config->log.requests, CONFIG_LOG_REQUESTS_ERRORS);
    assert_int_equal(config->rollout_count, 0);
    const struct config_service *service = &config->services[0];
    assert_string_equal(service->stable, "only");
    assert_int_equal(service->route_count, 1);
    assert_string_equal(service->routes[0].host, "");
    assert_string_equal(service->routes[0].path.text, "/");
    assert_int_equal(service->unit.kind, CONFIG_UNIT_REQUEST);
    assert_int_equal(service->timeouts.connect_ms, config->timeouts.connect_ms);
    assert_false(service->versions[0].endpoints[0].address.literal);
    config_destroy(config);
}

TEST(overrides)
{
    struct config *config =
        load_good("services:\n"
                  "  a: {versions: {v1: [h:1], v2: [h:2]}, stable: v1, unit: address,\n"
                  "      control: [h:3], timeouts: {connect: 7s}}\n"
                  "timeouts: {connect: 3s, idle: 4s, total: 2m}\n"
                  "limits: {request_body: 64MiB}\n"
                  "trust: {networks: [10.0.0.0/8, '::1'], forwarded_hops: 2}\n"
                  "listen: [{address: 'unix:/tmp/s'}]\n"
                  "rollouts: {r: {service: a, to: v2, start: auto, evidence: cumulative,\n"
                  "  checks: {errors: {share: 75%, window: rollout}, latency: on}}}\n");
    const struct config_service *service = &config->services[0];
    assert_int_equal(service->timeouts.connect_ms, 7000);
    assert_int_equal(service->timeouts.idle_ms, 4000);
    assert_int_equal(service->timeouts.total_ms, 120000);
    assert_int_equal(service->unit.kind, CONFIG_UNIT_ADDRESS);
    assert_int_equal(service->control_endpoint_count, 1);
    assert_int_equal(config->limits.request_body_bytes, 64 << 20);
    assert_int_equal(config->trust.network_count, 2);
    assert_int_equal(config->trust.networks[0].prefix_bits, 104);
    assert_int_equal(config->trust.networks[0].address[10], 0xff);
    assert_int_equal(config->trust.networks[0].address[12], 10);
    assert_int_equal(config->trust.networks[1].prefix_bits, 128);
    const struct rollout_spec *spec = &config->rollouts[0].spec;
    assert_true(spec->control);
    assert_true(spec->start_auto);
    assert_true(spec->evidence_cumulative);
    assert_int_equal(spec->errors.window_ms, 0);
    assert_near(spec->errors.share, 0.9 * 0.75);
    assert_near(spec->latency.share, 0.9 * 0.25);
    assert_int_equal(spec->errors.prove, ROLLOUT_PROVE_BUDGET);
    assert_near(spec->throughput.share, 0);
    assert_true(spec->stage_count > 0);
    config_destroy(config);
}

static const struct config_service_errors *errors_said(const char *words, struct config **config, char *line)
{
    char yaml[1024];
    snprintf(yaml, sizeof yaml, "listen: [0.0.0.0:80]\nservices: {s: {versions: {v: [h:1]}%s}}\n", words);
    if (config_load_text("t.yaml", slice_of(yaml), config, &errors) != STATUS_OK)
        fail_msg("%s: %s", words, errors.items[0].message);
    struct text text = text_over(line, CONFIG_ERROR_LINE_BYTES);
    config_service_errors_write(&(*config)->services[0].errors, &text);
    assert_false(text.cut);
    return &(*config)->services[0].errors;
}

// What an error is, as the file says it and as people are told it.
TEST(service_errors)
{
    static const char GRPC[] =
        "gRPC status unknown, deadline_exceeded, unimplemented, internal, unavailable, data_loss";
    static const struct {
        const char *words;
        const char *told; // before the default of gRPC
    } CASES[] = {
        {", errors: {statuses: [5xx, 429, 404-410]}", "status 5xx, 429, 404-410; or "},
        {", errors: {statuses: []}", ""},
        {", errors: {headers: {x-result: failed, X-Broken: present, y: {is: present}}}",
         "status 5xx; or header x-result: failed; or header X-Broken; or header y: present; or "},
        {", errors: {body: '\"ok\":false'}",
         "status 5xx; or \"ok\":false in the first 65536 bytes of a body that is not encoded; or "},
        {", errors: {body: {contains: no, within: 2B}}",
         "status 5xx; or no in the first 2 bytes of a body that is not encoded; or "},
        {", errors: {statuses: [200-599]}", "status 200-599; or "},
    };
    struct config *config;
    char line[CONFIG_ERROR_LINE_BYTES];
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char wanted[512];
        assert_true(errors_said(CASES[i].words, &config, line)->given);
        snprintf(wanted, sizeof wanted, "%s%s; or no sound answer", CASES[i].told, GRPC);
        assert_string_equal(line, wanted);
        config_destroy(config);
    }
    const struct config_service_errors *said =
        errors_said(", errors: {statuses: [], grpc: [aborted]}", &config, line);
    assert_int_equal(said->grpc_count, 1);
    assert_int_equal(said->grpc[0], 10);
    assert_string_equal(line, "gRPC status aborted; or no sound answer");
    config_destroy(config);
    (void)errors_said(", errors: {statuses: [], grpc: []}", &config, line);
    assert_string_equal(line, "no sound answer");
    config_destroy(config);
    assert_false(errors_said("", &config, line)->given);
    config_destroy(config);
    assert_false(errors_said(", errors: ", &config, line)->given); // all of it commented out
    config_destroy(config);
}

// What a version does not say of TLS its service says for it, and only that.
TEST(origins)
{
    struct config *config = load_good(
        "listen: [0.0.0.0:80]\n"
        "services:\n"
        "  a: {versions: {v1: [h:1], v2: {endpoints: [h:2], tls: false}, v3: {endpoints: [h:3], tls: {min_version: 1.3}}},\n"
        "      control: [h:4], stable: v1, tls: {server_name: In.Example, ca: /ca.pem, certificate: /c.pem, key: /c.key}}\n"
        "  b: {versions: {v1: ['unix:/b', 'srv:_b._tcp.b']}, control: {endpoints: [h:5], tls: {verify: false}},\n"
        "      routes: [{path: /b}], tls: {server_name: b}}\n"
        "  c: {versions: {v1: [h:6]}, routes: [{path: /c}]}\n"
        "  d: {versions: {v1: {endpoints: [h:7], tls: {verify: false}}}, routes: [{path: /d}]}\n");
    const struct config_service *a = &config->services[0], *b = &config->services[1];
    assert_int_equal(a->versions[0].origin.speech, CONFIG_SPEECH_TLS);
    assert_true(a->versions[0].origin.verify);
    assert_string_equal(a->versions[0].origin.server_name, "in.example");
    assert_string_equal(a->versions[0].origin.ca, "/ca.pem");
    assert_string_equal(a->versions[0].origin.certificate, "/c.pem");
    assert_string_equal(a->versions[0].origin.key, "/c.key");
    assert_int_equal(a->versions[0].origin.version_min, CONFIG_TLS_1_2);
    assert_int_equal(a->versions[1].origin.speech, CONFIG_SPEECH_PLAIN);
    assert_int_equal(a->versions[2].origin.speech, CONFIG_SPEECH_TLS);
    assert_int_equal(a->versions[2].origin.version_min, CONFIG_TLS_1_3);
    assert_string_equal(a->versions[2].origin.ca, "");
    assert_string_equal(a->control_origin.ca, "/ca.pem");
    assert_string_equal(b->versions[0].origin.server_name, "b");
    assert_false(b->control_origin.verify);
    assert_int_equal(config->services[2].versions[0].origin.speech, CONFIG_SPEECH_UNSAID);
    // Said, whatever else there is to say.
    assert_int_equal(config->note_count, 1);
    assert_string_equal(config->notes[0],
                        "NOT VERIFIED: whoever answers is believed to be b (control), d v1, for 'tls' "
                        "says 'verify: false'");
    config_destroy(config);
}

TEST(aliases)
{
    struct config *config =
        load_good("listen: [0.0.0.0:80]\n"
                  "services:\n"
                  "  a: {routes: [{path: /a}], versions: &both {v1: [h:1], v2: [h:2]}, stable: v1}\n"
                  "  b: {routes: [{path: /b}], versions: *both, stable: v2}\n");
    assert_int_equal(config->services[1].version_count, 2);
    assert_string_equal(config->services[1].versions[1].endpoints[0].address.text, "h:2");
    config_destroy(config);
}

TEST(values)
{
    uint64_t value;
    uint32_t weight;
    assert_int_equal(config_parse_duration(SLICE("1d2h3m4s5ms"), &value), STATUS_OK);
    assert_int_equal(value, 93784005);
    static const char *const bad_durations[] = {"",     "10",  "m",    "10x", "1m1h",
                                                "1m1m", "-1s", "1.5h", " 1s", "1 s"};
    for (size_t i = 0; i < ARRAY_LEN(bad_durations); i++)
        assert_int_equal(config_parse_duration(slice_of(bad_durations[i]), &value), STATUS_INVALID);
    assert_int_equal(config_parse_duration(SLICE("99999999999999999999s"), &value), STATUS_RANGE);
    assert_int_equal(config_parse_duration(SLICE("18446744073709551615d"), &value), STATUS_RANGE);
    assert_int_equal(config_parse_duration(SLICE("18446744073709551s1000ms"), &value), STATUS_RANGE);
    assert_int_equal(value, 93784005);
    assert_int_equal(config_parse_weight(SLICE("0.001%"), &weight), STATUS_OK);
    assert_int_equal(weight, 1);
    assert_int_equal(config_parse_weight(SLICE("100.000000%"), &weight), STATUS_OK);
    assert_int_equal(weight, ROLLOUT_WEIGHT_FULL);
    assert_int_equal(config_parse_weight(SLICE("0.0001%"), &weight), STATUS_RANGE);
    assert_int_equal(config_parse_weight(SLICE("100.001%"), &weight), STATUS_RANGE);
    assert_int_equal(config_parse_weight(SLICE("5"), &weight), STATUS_INVALID);
    assert_int_equal(config_parse_weight(SLICE("0.05"), &weight), STATUS_INVALID);
    assert_int_equal(config_parse_weight(SLICE("5.%"), &weight), STATUS_INVALID);
    assert_int_equal(config_parse_weight(SLICE("5x%"), &weight), STATUS_INVALID);
    assert_int_equal(config_parse_weight(SLICE("%"), &weight), STATUS_INVALID);
    assert_int_equal(config_parse_size(SLICE("2GiB"), &value), STATUS_OK);
    assert_true(value == (2ULL << 30));
    assert_int_equal(config_parse_size(SLICE("2GB"), &value), STATUS_INVALID);
    assert_int_equal(config_parse_size(SLICE("2"), &value), STATUS_INVALID);
    assert_int_equal(config_parse_size(SLICE("99999999TiB"), &value), STATUS_RANGE);
}

TEST(values_written)
{
    char storage[64];
    static const struct {
        uint64_t ms;
        const char *text;
    } durations[] = {{0, "0s"}, {500, "500ms"}, {5400000, "1h30m"}, {86400001, "1d1ms"}};
    for (size_t i = 0; i < ARRAY_LEN(durations); i++) {
        struct text text = text_over(storage, sizeof storage);
        config_duration_write(durations[i].ms, &text);
        assert_string_equal(storage, durations[i].text);
    }
    for (uint32_t weight = 0; weight <= ROLLOUT_WEIGHT_FULL; weight += 7) {
        struct text text = text_over(storage, sizeof storage);
        uint32_t back;
        config_weight_write(weight, &text);
        assert_int_equal(config_parse_weight(slice_of(storage), &back), STATUS_OK);
        assert_int_equal(back, weight);
    }
    struct text text = text_over(storage, sizeof storage);
    config_weight_write(100, &text);
    assert_string_equal(storage, "0.1%");
}

TEST(nearest)
{
    static const char *const words[] = {"stages", "checks", "to", "undecided"};
    assert_string_equal(config_nearest(SLICE("stagse"), words, 4), "stages");
    assert_string_equal(config_nearest(SLICE("Stages"), words, 4), "stages");
    assert_string_equal(config_nearest(SLICE("undicide"), words, 4), "undecided");
    assert_null(config_nearest(SLICE("banana"), words, 4));
    assert_null(config_nearest(SLICE("xy"), words, 4));
    assert_null(config_nearest(SLICE(""), words, 4));
}

// What the table says of defaults is what the core fills in.
TEST(table_defaults_are_the_cores)
{
    static struct config_rollout entry; // the table's words reach beyond the spec
    struct rollout_spec spec;
    rollout_spec_init(&spec);
    entry.spec = spec;
    struct config_errors none = {.count = 0};
    struct config_reader *reader = heap_alloc(1, sizeof *reader);
    assert_non_null(reader);
    reader->errors = &none;
    const struct config_section *rollout =
        config_section_word(&config_root_section, SLICE("rollouts"))->section;
    config_section_fallbacks(reader, rollout, &entry);
    struct rollout_spec filled = entry.spec;
    assert_int_equal(none.count, 0);
    assert_memory_equal(&filled.errors, &spec.errors, sizeof spec.errors);
    assert_memory_equal(&filled.latency, &spec.latency, sizeof spec.latency);
    assert_memory_equal(&filled.throughput, &spec.throughput, sizeof spec.throughput);
    assert_true(filled.alpha == spec.alpha && filled.beta == spec.beta);
    assert_int_equal(filled.undecided, spec.undecided);
    assert_int_equal(filled.evidence_cumulative, spec.evidence_cumulative);
    assert_int_equal(filled.start_auto, spec.start_auto);
    assert_int_equal(filled.warmup_ms, spec.warmup_ms);
    assert_int_equal(filled.deadline_ms, spec.deadline_ms);
    assert_int_equal(filled.drain_ms, spec.drain_ms);
    assert_int_equal(filled.keep_ms, spec.keep_ms);
    rollout_spec_default_stages(&spec);
    struct rollout_stage stage = spec.stages[0];
    stage.soak_ms = spec.stages[spec.stage_count - 1].soak_ms;
    struct rollout_stage stage_filled = stage;
    config_section_fallbacks(reader, config_section_word(rollout, SLICE("stages"))->section, &stage_filled);
    assert_int_equal(stage_filled.min_ms, stage.min_ms);
    assert_int_equal(stage_filled.horizon_ms, stage.horizon_ms);
    assert_int_equal(stage_filled.soak_ms, stage.soak_ms);
    static const uint32_t weights[] = {1000, 5000, 10000, 25000, 50000, 100000};
    assert_int_equal(spec.stage_count, ARRAY_LEN(weights));
    for (size_t i = 0; i < ARRAY_LEN(weights); i++)
        assert_int_equal(spec.stages[i].weight, weights[i]);
    heap_free(reader);
}

// ---- files ----

static void file_put(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void file_remove(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

TEST(directory)
{
    char folder[] = "/tmp/sluice-config-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct config *config = NULL;
    assert_int_equal(config_load(folder, &config, &errors), STATUS_INVALID);
    assert_non_null(strstr(errors.items[0].message, "holds no *.yaml"));
    file_put(folder, "a.yaml",
             "listen: [0.0.0.0:80]\nservices: {a: {versions: {v: [h:1]}, routes: [{path: /a}]}}\n");
    file_put(folder, "b.yaml",
             "services:\n  b: {versions: {v: [h:1], w: [h:2]}, stable: v}\n"
             "rollouts: {r: {service: b, to: w}}\n");
    file_put(folder, "c.txt", "nonsense: [");
    assert_int_equal(config_load(folder, &config, &errors), STATUS_OK);
    assert_int_equal(config->service_count, 2);
    assert_string_equal(config->services[1].name, "b");
    assert_non_null(strstr(config->services[1].position.file, "/b.yaml"));
    config_destroy(config);
    config = NULL;
    file_put(folder, "d.yml", "services:\n  a: {}\nlisten: [0.0.0.0:81]\n");
    assert_int_equal(config_load(folder, &config, &errors), STATUS_INVALID);
    assert_null(config);
    assert_int_equal(errors.count, 2);
    assert_non_null(strstr(errors.items[0].position.file, "/d.yml"));
    assert_int_equal(errors.items[0].position.line, 2);
    assert_non_null(strstr(errors.items[0].message, "'a' is given already at "));
    assert_non_null(strstr(errors.items[0].message, "/a.yaml:2:12"));
    assert_non_null(strstr(errors.items[1].message, "'listen' is given already at "));
    static const char *const files[] = {"a.yaml", "b.yaml", "c.txt", "d.yml"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        file_remove(folder, files[i]);
    rmdir(folder);
    assert_int_equal(config_load(folder, &config, &errors), STATUS_NOT_FOUND);
    assert_int_equal(errors.items[0].position.line, 0);
    assert_non_null(strstr(errors.items[0].message, "cannot be read"));
}

// A folder of its own with one file, that names a journal, a unix socket and files of flags.
TEST(paths)
{
    char folder[] = "/tmp/sluice-config-XXXXXX";
    char file[64], wanted[64];
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/a.yaml", folder);
    // "README.md" is in the working directory of the tests, and not beside the file.
    file_put(folder, "a.yaml",
             "listen: ['unix:in.sock']\nservices: {a: {versions: {v: ['unix:/run/app.sock']}}}\n"
             "flags: {sources: [README.md, /etc/flags.json, {directory: LICENSE}]}\n");
    file_put(folder, "LICENSE", "");
    for (int whole = 0; whole < 2; whole++) {
        struct config *config = NULL;
        assert_int_equal(config_load(whole == 0 ? file : folder, &config, &errors), STATUS_OK);
        snprintf(wanted, sizeof wanted, "%s/sluice.db", folder);
        assert_string_equal(config->journal, wanted);
        snprintf(wanted, sizeof wanted, "unix:%s/in.sock", folder);
        assert_string_equal(config->listen[0].address.text, wanted);
        assert_string_equal(config->services[0].versions[0].endpoints[0].address.text, "unix:/run/app.sock");
        assert_string_equal(config->flags.sources[0].place, "README.md");
        assert_string_equal(config->flags.sources[1].place, "/etc/flags.json");
        snprintf(wanted, sizeof wanted, "%s/LICENSE", folder);
        assert_string_equal(config->flags.sources[2].place, wanted);
        assert_int_equal(config->note_count, 1);
        assert_non_null(strstr(config->notes[0], "'README.md' is not beside the file that names it"));
        config_destroy(config);
    }
    file_remove(folder, "a.yaml");
    file_remove(folder, "LICENSE");
    rmdir(folder);
}

TEST(examples)
{
    static const char *const files[] = {"examples/minimal.yaml", "examples/full.yaml", "examples/flags.yaml"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct config *config = NULL;
        enum status status = config_load(files[i], &config, &errors);
        if (status != STATUS_OK)
            print_error("%s: %s\n", files[i], errors.count > 0 ? errors.items[0].message : "");
        assert_int_equal(status, STATUS_OK);
        config_destroy(config);
    }
}

TEST(endpoints_and_balance)
{
    struct config *config =
        load_good("zone: a\nlisten: ['127.0.0.1:8080']\nservices:\n  shop:\n    versions:\n"
                  "      v1: [10.0.0.1:1, {address: 'h:2', weight: 0, zone: b}]\n"
                  "    balance: {hash: {cookie: sid}}\n");
    const struct config_service *service = &config->services[0];
    const struct config_endpoint *endpoints = service->versions[0].endpoints;
    assert_string_equal(config->zone, "a");
    assert_int_equal(endpoints[0].weight, 1);
    assert_string_equal(endpoints[0].zone, "");
    assert_string_equal(endpoints[1].address.text, "h:2");
    assert_int_equal(endpoints[1].weight, 0);
    assert_string_equal(endpoints[1].zone, "b");
    assert_int_equal(service->balance.hash.kind, CONFIG_ATTRIBUTE_COOKIE);
    assert_string_equal(service->balance.hash.source, "sid");
    config_destroy(config);
}

static bool word_appears(const char *text, const char *word)
{
    char wanted[80];
    snprintf(wanted, sizeof wanted, "%s:", word);
    return strstr(text, wanted) != NULL;
}

static void words_appear(const struct config_section *section, const char *text)
{
    for (size_t i = 0; i < section->word_count; i++) {
        const struct config_word *word = &section->words[i];
        if (word->kind == CONFIG_KIND_LATER)
            continue;
        if (!word_appears(text, word->word))
            fail_msg("examples/full.yaml does not show '%s' of %s", word->word, section->title);
        if (word->section != NULL)
            words_appear(word->section, text);
    }
}

TEST(full_example_is_full)
{
    static char text[16384];
    FILE *file = fopen("examples/full.yaml", "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    words_appear(&config_root_section, text);
}

// ---- failing allocations ----

TEST(torture)
{
    enum status status = STATUS_NO_MEMORY;
    long n = 0;
    for (; n < 10000 && status == STATUS_NO_MEMORY; n++) {
        struct config *config = NULL;
        heap_fail_after(n);
        status = config_load_text("test.yaml", slice_of(design_example), &config, &errors);
        heap_fail_after(-1);
        assert_int_equal(errors.count, 0);
        assert_true((config != NULL) == (status == STATUS_OK));
        config_destroy(config);
    }
    assert_int_equal(status, STATUS_OK);
    assert_true(n > 5);
}

TEST(torture_of_files)
{
    enum status status = STATUS_NO_MEMORY;
    for (long n = 0; n < 10000 && status == STATUS_NO_MEMORY; n++) {
        struct config *config = NULL;
        heap_fail_after(n);
        status = config_load("examples/full.yaml", &config, &errors);
        heap_fail_after(-1);
        config_destroy(config);
    }
    assert_int_equal(status, STATUS_OK);
}
