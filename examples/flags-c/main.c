// SPDX-License-Identifier: Apache-2.0
// Asks for a few flags, either of what a Sluice daemon publishes in a directory or of a flagd file:
//     ./flags-c /run/sluice/flags [user] [plan]
//     ./flags-c flags.json        [user] [plan]
#include <sluice_flags.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void on_event(void *data, struct sluice_flags_provider *provider, enum sluice_flags_event event,
                     const char *problem)
{
    static const char *const NAMES[] = {"ready", "configuration changed", "stale", "error"};
    (void)data;
    (void)provider;
    fprintf(stderr, "event: %s%s%s\n", NAMES[event], problem[0] != '\0' ? ": " : "", problem);
}

static void on_answer(void *data, const struct sluice_flags_hook_context *about,
                      const struct sluice_flags_value *value, const struct sluice_flags_details *details)
{
    unsigned *count = data;
    (void)about;
    (void)value;
    (void)details;
    (*count)++;
}

static void show(const char *key, const char *value, const struct sluice_flags_details *details)
{
    printf("%s = %s (variant '%s', %s%s%s)\n", key, value, details->variant,
           sluice_flags_reason_name(details->reason), details->error != SLUICE_FLAGS_ERROR_NONE ? ", " : "",
           sluice_flags_error_name(details->error));
}

int main(int argc, char **argv)
{
    struct sluice_flags_provider *provider;
    struct sluice_flags_details details = SLUICE_FLAGS_DETAILS_INIT;
    char storage[SLUICE_FLAGS_CONTEXT_BYTES];
    char color[64];
    unsigned answers = 0;
    struct sluice_flags_hook hook = {.finally = on_answer, .data = &answers};
    struct stat facts;

    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY|FILE [USER] [PLAN]\n", argv[0]);
        return 2;
    }
    int is_file = stat(argv[1], &facts) == 0 && S_ISREG(facts.st_mode);
    enum sluice_flags_error error = is_file ? sluice_flags_open_file(argv[1], NULL, &provider)
                                            : sluice_flags_open_shared(argv[1], NULL, &provider);
    if (error != SLUICE_FLAGS_ERROR_NONE) {
        fprintf(stderr, "cannot open %s\n", argv[1]);
        return 1;
    }
    (void)sluice_flags_add_handler(provider, on_event, NULL);
    (void)sluice_flags_add_hook(provider, &hook);
    (void)sluice_flags_wait(provider, 1000);

    // On the stack: no allocation. sluice_flags_context_create() makes one that is kept and shared.
    struct sluice_flags_context *context = sluice_flags_context_init(storage, sizeof storage);
    (void)sluice_flags_context_set_targeting_key(context, argc > 2 ? argv[2] : "user-1");
    (void)sluice_flags_context_set_string(context, "plan", argc > 3 ? argv[3] : "free");

    bool on = sluice_flags_boolean(provider, "new-checkout", false, context, &details);
    show("new-checkout", on ? "true" : "false", &details);
    (void)sluice_flags_string(provider, "button-color", "gray", context, color, sizeof color, &details);
    show("button-color", color, &details);
    (void)sluice_flags_string(provider, "not-there", "fallback", context, color, sizeof color, &details);
    show("not-there", color, &details);
    printf("%u answers from set %llu\n", answers, (unsigned long long)sluice_flags_generation(provider));
    sluice_flags_close(provider);
    return 0;
}
