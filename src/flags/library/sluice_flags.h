/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsluice-flags: feature flags in process, in OpenFeature's terms. A provider holds a set of flags: the one
 * that a Sluice daemon publishes in a directory, or a flagd file. Evaluations may run on any number of
 * threads at once; they take no lock, allocate nothing and make no system call. New sets come in beside them,
 * by a thread of the library or by sluice_flags_poll().
 *
 * Nothing given out is borrowed, unless a "hold" says so: values are copied into the caller's storage.
 * Every default that is answered has its reason in the details.
 */
#ifndef SLUICE_FLAGS_H
#define SLUICE_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SLUICE_FLAGS_API __attribute__((visibility("default")))
#else
#define SLUICE_FLAGS_API
#endif

#define SLUICE_FLAGS_VERSION_MAJOR 0
#define SLUICE_FLAGS_VERSION_MINOR 1

#define SLUICE_FLAGS_VARIANT_BYTES 128  /* of a variant's name in details, the NUL included */
#define SLUICE_FLAGS_MESSAGE_BYTES 256  /* of an error's message in details */
#define SLUICE_FLAGS_PROBLEM_BYTES 512  /* of a provider's problem */
#define SLUICE_FLAGS_PATH_BYTES 1024    /* of a directory or file, the NUL included */
#define SLUICE_FLAGS_HOOKS_MAX 8        /* of one provider */
#define SLUICE_FLAGS_HANDLERS_MAX 8     /* of one provider */
#define SLUICE_FLAGS_CONTEXT_BYTES 4096 /* that do for some forty attributes */
#define SLUICE_FLAGS_CONTEXT_ATTRIBUTES_MAX 4096

/* OpenFeature's error codes. */
enum sluice_flags_error {
    SLUICE_FLAGS_ERROR_NONE = 0,
    SLUICE_FLAGS_ERROR_PROVIDER_NOT_READY,
    SLUICE_FLAGS_ERROR_FLAG_NOT_FOUND,
    SLUICE_FLAGS_ERROR_PARSE_ERROR,
    SLUICE_FLAGS_ERROR_TYPE_MISMATCH,
    SLUICE_FLAGS_ERROR_TARGETING_KEY_MISSING,
    SLUICE_FLAGS_ERROR_INVALID_CONTEXT,
    SLUICE_FLAGS_ERROR_PROVIDER_FATAL,
    SLUICE_FLAGS_ERROR_GENERAL
};

/* OpenFeature's resolution reasons. */
enum sluice_flags_reason {
    SLUICE_FLAGS_REASON_UNKNOWN = 0,
    SLUICE_FLAGS_REASON_STATIC,
    SLUICE_FLAGS_REASON_TARGETING_MATCH,
    SLUICE_FLAGS_REASON_DEFAULT,
    SLUICE_FLAGS_REASON_SPLIT,
    SLUICE_FLAGS_REASON_DISABLED,
    SLUICE_FLAGS_REASON_ERROR
};

enum sluice_flags_type {
    SLUICE_FLAGS_BOOLEAN,
    SLUICE_FLAGS_STRING,
    SLUICE_FLAGS_INTEGER,
    SLUICE_FLAGS_DOUBLE,
    SLUICE_FLAGS_OBJECT
};

/* "FLAG_NOT_FOUND" ... ("" for none); "TARGETING_MATCH" ... */
SLUICE_FLAGS_API const char *sluice_flags_error_name(enum sluice_flags_error error);
SLUICE_FLAGS_API const char *sluice_flags_reason_name(enum sluice_flags_reason reason);
SLUICE_FLAGS_API const char *sluice_flags_version(void);

/* ---- evaluation context ---- */

/*
 * A targeting key and attributes. Not for two threads while it changes; for any number while it does not.
 * Everything set is copied in. A later value of one name replaces the earlier one.
 */
struct sluice_flags_context;

/* On the heap, growing as needed; NULL without memory. Destroying NULL is allowed. */
SLUICE_FLAGS_API struct sluice_flags_context *sluice_flags_context_create(void);
SLUICE_FLAGS_API void sluice_flags_context_destroy(struct sluice_flags_context *context);
/*
 * In the caller's storage, such as an array on the stack (any alignment), without the heap: it holds what
 * fits, and needs no destroying. NULL when size is below what an empty one needs (512 does).
 */
SLUICE_FLAGS_API struct sluice_flags_context *sluice_flags_context_init(void *storage, size_t size);
/* Empty again, its memory kept. */
SLUICE_FLAGS_API void sluice_flags_context_clear(struct sluice_flags_context *context);

/*
 * False: no room or no memory, a name or text that is no UTF-8, a number that is not finite, or JSON that is
 * none. Nothing was set then, and evaluations with this context answer INVALID_CONTEXT until it is cleared,
 * so that what is missing cannot be overlooked.
 */
SLUICE_FLAGS_API bool sluice_flags_context_set_targeting_key(struct sluice_flags_context *context,
                                                             const char *key);
SLUICE_FLAGS_API bool sluice_flags_context_set_string(struct sluice_flags_context *context, const char *name,
                                                      const char *value);
SLUICE_FLAGS_API bool sluice_flags_context_set_number(struct sluice_flags_context *context, const char *name,
                                                      double value);
SLUICE_FLAGS_API bool sluice_flags_context_set_boolean(struct sluice_flags_context *context, const char *name,
                                                       bool value);
/* Any JSON text: an object, a list, null. */
SLUICE_FLAGS_API bool sluice_flags_context_set_json(struct sluice_flags_context *context, const char *name,
                                                    const char *json);

/* ---- providers ---- */

struct sluice_flags_provider;

enum sluice_flags_state {
    SLUICE_FLAGS_NOT_READY, /* nothing to evaluate yet; it is being tried */
    SLUICE_FLAGS_READY,
    SLUICE_FLAGS_STALE, /* evaluating, but what it evaluates may be outdated: no daemon, or a bad update */
    SLUICE_FLAGS_FAILED /* nothing to evaluate, and what is there is wrong; it is being tried */
};

struct sluice_flags_options {
    /* No thread: new sets are seen when the caller calls sluice_flags_poll(). */
    bool no_thread;
    /* As flagd: without a targeting key a rule that buckets by it yields null, and the default variant
       answers. Else such an evaluation is TARGETING_KEY_MISSING. */
    bool targeting_key_optional;
};

/*
 * The flags that a daemon publishes in a directory (`flags: {share: ...}` of its file). It need not run yet.
 * The directory must be one that only the daemon's user may write. options may be NULL. Errors: GENERAL (no
 * memory, no thread, path too long); what is wrong with the flags themselves is told by state and problem.
 */
SLUICE_FLAGS_API enum sluice_flags_error sluice_flags_open_shared(const char *directory,
                                                                  const struct sluice_flags_options *options,
                                                                  struct sluice_flags_provider **provider);
/* A flagd file, compiled in process and again when it changes; a bad change leaves the last good set. */
SLUICE_FLAGS_API enum sluice_flags_error sluice_flags_open_file(const char *path,
                                                                const struct sluice_flags_options *options,
                                                                struct sluice_flags_provider **provider);
/* No evaluation, hold or poll may be under way or follow. NULL is allowed. Not from a handler or hook. */
SLUICE_FLAGS_API void sluice_flags_close(struct sluice_flags_provider *provider);

SLUICE_FLAGS_API enum sluice_flags_state sluice_flags_state(const struct sluice_flags_provider *provider);
/* Waits until it is READY or STALE, or the time is over; the state then. Polls when there is no thread. */
SLUICE_FLAGS_API enum sluice_flags_state sluice_flags_wait(struct sluice_flags_provider *provider,
                                                           unsigned timeout_ms);
/* Why it is not READY, for people: copied, always terminated, empty when nothing is wrong; its length. */
SLUICE_FLAGS_API size_t sluice_flags_problem(struct sluice_flags_provider *provider, char *out, size_t cap);
/* Grows by one with each set that came into force; 0: none yet. */
SLUICE_FLAGS_API uint64_t sluice_flags_generation(const struct sluice_flags_provider *provider);
/*
 * Looks for news at once: true when a new set came into force. For providers without a thread (they also take
 * the time of day, which schedules go by, here). After fork() the child may evaluate on, but sees no news;
 * for those it opens a provider of its own.
 */
SLUICE_FLAGS_API bool sluice_flags_poll(struct sluice_flags_provider *provider);

/* ---- evaluation ---- */

/*
 * How an answer came about. Filled whole by each evaluation, but `metadata` and `metadata_cap`, which the
 * caller sets: storage for the flag's metadata (a JSON object), or NULL and 0. Use SLUICE_FLAGS_DETAILS_INIT.
 */
struct sluice_flags_details {
    enum sluice_flags_reason reason;
    enum sluice_flags_error error;
    bool defaulted; /* the value is the caller's default */
    bool cut;       /* something did not fit: variant, message, metadata, or a text value */
    char variant[SLUICE_FLAGS_VARIANT_BYTES];
    /* Of an error; without one it may hold a remark, such as "outside its schedule". */
    char error_message[SLUICE_FLAGS_MESSAGE_BYTES];
    uint64_t generation; /* of the set that answered */
    char *metadata;
    size_t metadata_cap;
    size_t metadata_len; /* of all of it, even if cut */
};

#define SLUICE_FLAGS_DETAILS_INIT                                                                            \
    {                                                                                                        \
        SLUICE_FLAGS_REASON_UNKNOWN, SLUICE_FLAGS_ERROR_NONE, false, false, {0}, {0}, 0, 0, 0, 0             \
    }

/* details may be NULL; so may context: an empty one. */
SLUICE_FLAGS_API bool sluice_flags_boolean(struct sluice_flags_provider *provider, const char *key,
                                           bool default_value, const struct sluice_flags_context *context,
                                           struct sluice_flags_details *details);
/* A number with a fraction, or one outside int64_t, is TYPE_MISMATCH. */
SLUICE_FLAGS_API int64_t sluice_flags_integer(struct sluice_flags_provider *provider, const char *key,
                                              int64_t default_value,
                                              const struct sluice_flags_context *context,
                                              struct sluice_flags_details *details);
SLUICE_FLAGS_API double sluice_flags_double(struct sluice_flags_provider *provider, const char *key,
                                            double default_value, const struct sluice_flags_context *context,
                                            struct sluice_flags_details *details);
/*
 * The value is copied to out[cap], cut if it must be and always terminated (if cap > 0). The result is its
 * whole length: one that is not below cap says that it was cut. out must not overlap default_value (NULL is
 * "").
 */
SLUICE_FLAGS_API size_t sluice_flags_string(struct sluice_flags_provider *provider, const char *key,
                                            const char *default_value,
                                            const struct sluice_flags_context *context, char *out, size_t cap,
                                            struct sluice_flags_details *details);
/* The same for values that are objects: their JSON text. */
SLUICE_FLAGS_API size_t sluice_flags_object(struct sluice_flags_provider *provider, const char *key,
                                            const char *default_value,
                                            const struct sluice_flags_context *context, char *out, size_t cap,
                                            struct sluice_flags_details *details);

struct sluice_flags_value {
    enum sluice_flags_type type;
    bool boolean;
    int64_t integer;
    double number;    /* DOUBLE */
    const char *text; /* STRING, OBJECT: text_len bytes; not terminated */
    size_t text_len;
};

/* ---- holds: one set for several evaluations, and texts without copying ---- */

/*
 * A hold keeps one set mapped, for as long as the caller likes, on any thread. All evaluations through it see
 * that set, and texts they give stay good until it ends. False: the provider has no set yet.
 */
struct sluice_flags_hold {
    struct sluice_flags_provider *provider;
    void *set;
};
SLUICE_FLAGS_API bool sluice_flags_hold_begin(struct sluice_flags_provider *provider,
                                              struct sluice_flags_hold *hold);
SLUICE_FLAGS_API void sluice_flags_hold_end(struct sluice_flags_hold *hold);
/* *value holds the default and its type before the call, and the answer after it. */
SLUICE_FLAGS_API void sluice_flags_hold_evaluate(const struct sluice_flags_hold *hold, const char *key,
                                                 const struct sluice_flags_context *context,
                                                 struct sluice_flags_value *value,
                                                 struct sluice_flags_details *details);

/* ---- hooks: telemetry around each evaluation ---- */

struct sluice_flags_hook_context {
    struct sluice_flags_provider *provider;
    const char *key;
    enum sluice_flags_type type;
    const struct sluice_flags_context *context; /* may be NULL */
};

/*
 * Each may be NULL. Called on the evaluating thread, in OpenFeature's order: `before` as added, the others
 * from the last added to the first. `after` for answers without error, `error` for those with one, `finally`
 * for all. What they are given is good for the call only.
 */
struct sluice_flags_hook {
    void (*before)(void *data, const struct sluice_flags_hook_context *about);
    void (*after)(void *data, const struct sluice_flags_hook_context *about,
                  const struct sluice_flags_value *value, const struct sluice_flags_details *details);
    void (*error)(void *data, const struct sluice_flags_hook_context *about,
                  const struct sluice_flags_details *details);
    void (*finally)(void *data, const struct sluice_flags_hook_context *about,
                    const struct sluice_flags_value *value, const struct sluice_flags_details *details);
    void *data;
};
/* Copied; it stays until the provider is closed. False: SLUICE_FLAGS_HOOKS_MAX are there. On any thread. */
SLUICE_FLAGS_API bool sluice_flags_add_hook(struct sluice_flags_provider *provider,
                                            const struct sluice_flags_hook *hook);

/* ---- events ---- */

enum sluice_flags_event {
    SLUICE_FLAGS_EVENT_READY,
    SLUICE_FLAGS_EVENT_CONFIGURATION_CHANGED,
    SLUICE_FLAGS_EVENT_STALE,
    SLUICE_FLAGS_EVENT_ERROR
};
typedef void sluice_flags_handler(void *data, struct sluice_flags_provider *provider,
                                  enum sluice_flags_event event, const char *problem);
/*
 * Called on the library's thread, or within poll and wait. One added when the provider is already READY,
 * STALE or FAILED is told so at once. A handler may evaluate, but not poll, wait, add handlers or close.
 * False: full.
 */
SLUICE_FLAGS_API bool sluice_flags_add_handler(struct sluice_flags_provider *provider,
                                               sluice_flags_handler *handler, void *data);

#ifdef __cplusplus
}
#endif

#endif
