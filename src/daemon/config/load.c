// SPDX-License-Identifier: Apache-2.0
// From a path to a tree: reads the file or the directory, merges its files, runs the table over them. On any
// failure nothing is left behind but the errors.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config_private.h"

static void file_close(FILE **file)
{
    if (*file != NULL)
        fclose(*file);
}

static void folder_close(DIR **folder)
{
    if (*folder != NULL)
        closedir(*folder);
}

// ---- reading ----

static struct config_source *source_add(struct config_reader *reader, const char *name)
{
    CHECK(reader->sources.count < CONFIG_FILES_MAX);
    struct config_source *source = &reader->sources.items[reader->sources.count++];
    struct text text = text_over(source->name, sizeof source->name);
    text_add(&text, slice_of(name));
    return source;
}

static enum status unreadable(struct config_reader *reader, int error_number)
{
    uint16_t file = (uint16_t)(reader->sources.count - 1);
    config_error_mark(reader, file, 0, 0, "cannot be read: %s", strerror(error_number));
    if (error_number == ENOENT)
        return STATUS_NOT_FOUND;
    return status_of_errno(error_number);
}

static uint64_t bytes_so_far(const struct config_reader *reader)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < reader->sources.count; i++)
        sum += reader->sources.items[i].text.len;
    return sum;
}

static enum status source_read(struct config_reader *reader, const char *name)
{
    struct config_source *source = source_add(reader, name);
    DEFER(file_close) FILE *file = fopen(name, "rbe");
    if (file == NULL)
        return unreadable(reader, errno);
    size_t cap = 4096, len = 0;
    char *bytes = heap_alloc(cap, 1);
    while (bytes != NULL) {
        len += fread(bytes + len, 1, cap - len, file);
        if (len < cap || len > CONFIG_FILE_BYTES_MAX)
            break;
        char *larger = heap_resize(bytes, cap * 2);
        if (larger == NULL)
            heap_free(bytes);
        bytes = larger;
        cap *= 2;
    }
    if (bytes == NULL) {
        reader->no_memory = true;
        return STATUS_NO_MEMORY;
    }
    source->text = (struct slice){bytes, len};
    if (ferror(file))
        return unreadable(reader, errno != 0 ? errno : EIO);
    if (bytes_so_far(reader) <= CONFIG_FILE_BYTES_MAX)
        return STATUS_OK;
    config_error_mark(reader, (uint16_t)(reader->sources.count - 1), 0, 0,
                      "the configuration is larger than %d MiB", CONFIG_FILE_BYTES_MAX >> 20);
    return STATUS_INVALID;
}

static bool is_yaml_name(const char *name)
{
    size_t len = strlen(name);
    if (name[0] == '.')
        return false;
    return (len > 5 && strcmp(name + len - 5, ".yaml") == 0) ||
           (len > 4 && strcmp(name + len - 4, ".yml") == 0);
}

struct names {
    uint32_t count;
    char items[CONFIG_FILES_MAX][CONFIG_FILE_NAME_BYTES];
};

static int name_order(const void *a, const void *b)
{
    return strcmp(a, b);
}

static enum status names_gather(struct config_reader *reader, const char *path, DIR *folder,
                                struct names *names)
{
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!is_yaml_name(entry->d_name))
            continue;
        if (names->count == CONFIG_FILES_MAX) {
            source_add(reader, path);
            config_error_mark(reader, 0, 0, 0, "the directory holds more than %d YAML files",
                              CONFIG_FILES_MAX);
            return STATUS_INVALID;
        }
        char *name = names->items[names->count++];
        struct text text = text_over(name, CONFIG_FILE_NAME_BYTES);
        text_addf(&text, "%s/%s", path, entry->d_name);
        if (text.cut) {
            source_add(reader, name);
            config_error_mark(reader, 0, 0, 0, "this path is too long");
            return STATUS_INVALID;
        }
    }
    if (names->count > 0)
        return STATUS_OK;
    source_add(reader, path);
    config_error_mark(reader, 0, 0, 0, "the directory holds no *.yaml file");
    return STATUS_INVALID;
}

static enum status folder_read(struct config_reader *reader, const char *path)
{
    DEFER(folder_close) DIR *folder = opendir(path);
    if (folder == NULL) {
        int error_number = errno;
        source_add(reader, path);
        return unreadable(reader, error_number);
    }
    struct names names = {.count = 0};
    enum status status = names_gather(reader, path, folder, &names);
    if (status != STATUS_OK)
        return status;
    qsort(names.items, names.count, sizeof names.items[0], name_order);
    for (uint32_t i = 0; i < names.count && status == STATUS_OK; i++)
        status = source_read(reader, names.items[i]);
    return status;
}

// ---- merging ----

static void given_twice(struct config_reader *reader, const struct config_node *again,
                        const struct config_node *first)
{
    config_error_at(reader, again, "'%s' is given already at %s:%u:%u", config_show(again->text).text,
                    reader->sources.items[first->file].name, first->line, first->column);
}

// Appends what `from` holds to `into`, whose entries are its own.
static bool entries_append(struct config_reader *reader, struct config_node *into,
                           const struct config_node *from)
{
    const struct config_entry *entry = from->first;
    for (uint32_t i = 0; i < from->count; i++, entry = entry->next) {
        const struct config_entry *earlier = config_node_find(into, entry->key->text.data);
        if (earlier != NULL)
            given_twice(reader, entry->key, earlier->key);
        else if (!config_node_append(reader, into, entry->key, entry->value))
            return false;
    }
    return true;
}

// A mapping of its own with the entries of both. Nodes that aliases share are never changed.
static struct config_node *maps_join(struct config_reader *reader, const struct config_node *a,
                                     const struct config_node *b)
{
    struct config_node *joined = config_arena_alloc(&reader->arena, sizeof *joined);
    if (joined == NULL) {
        reader->no_memory = true;
        return NULL;
    }
    *joined = *a;
    joined->first = joined->last = NULL;
    joined->count = 0;
    if (!entries_append(reader, joined, a) || !entries_append(reader, joined, b))
        return NULL;
    return joined;
}

static bool root_merge(struct config_reader *reader, struct config_node *into, const struct config_node *from)
{
    const struct config_entry *entry = from->first;
    for (uint32_t i = 0; i < from->count; i++, entry = entry->next) {
        struct config_entry *earlier = config_node_find(into, entry->key->text.data);
        if (earlier == NULL) {
            if (!config_node_append(reader, into, entry->key, entry->value))
                return false;
            continue;
        }
        const struct config_word *word = config_section_word(&config_root_section, entry->key->text);
        bool both_maps = earlier->value->kind == CONFIG_NODE_MAP && entry->value->kind == CONFIG_NODE_MAP;
        if (word == NULL || !word->merged || !both_maps) {
            given_twice(reader, entry->key, earlier->key);
            continue;
        }
        struct config_node *joined = maps_join(reader, earlier->value, entry->value);
        if (joined == NULL)
            return false;
        earlier->value = joined;
    }
    return true;
}

// ---- loading ----

static bool is_mapping(struct config_reader *reader, uint16_t file, const struct config_node *root)
{
    if (root == NULL)
        config_error_mark(reader, file, 0, 0,
                          "the file is empty; the least it needs is 'listen' and 'services'");
    else if (root->kind != CONFIG_NODE_MAP)
        config_error_at(reader, root,
                        "a mapping of words was expected here, such as 'listen:' and 'services:'");
    return root != NULL && root->kind == CONFIG_NODE_MAP;
}

static void sources_parse(struct config_reader *reader, struct config_node **root)
{
    for (uint16_t i = 0; i < reader->sources.count && !reader->no_memory; i++) {
        struct config_node *parsed = NULL;
        if (config_nodes_parse(reader, i, &parsed) != STATUS_OK || !is_mapping(reader, i, parsed))
            continue;
        if (*root == NULL)
            *root = parsed;
        else if (!root_merge(reader, *root, parsed))
            return;
    }
}

static enum status tree_read(struct config_reader *reader)
{
    struct config_node *root = NULL;
    sources_parse(reader, &root);
    if (reader->no_memory)
        return STATUS_NO_MEMORY;
    // A file that is no YAML hides words of others; what they lack would be told wrongly.
    if (reader->errors->count > 0)
        return STATUS_INVALID;
    struct config_scope scope = {.section = &config_root_section};
    config_section_read(reader, &scope, &config_root_section, root, reader->config);
    if (!reader->no_memory)
        config_cross_check(reader, root);
    if (reader->no_memory)
        return STATUS_NO_MEMORY;
    return reader->errors->count > 0 ? STATUS_INVALID : STATUS_OK;
}

static enum status sources_load(struct config_reader *reader, struct config **config)
{
    reader->config = heap_alloc(1, sizeof *reader->config);
    enum status status = reader->config == NULL ? STATUS_NO_MEMORY : tree_read(reader);
    config_arena_free(&reader->arena);
    if (status != STATUS_OK) {
        config_destroy(reader->config);
        if (status == STATUS_INVALID)
            config_errors_sort(reader->errors);
        return status;
    }
    *config = reader->config;
    return STATUS_OK;
}

static void sources_free(struct config_sources *sources)
{
    for (uint32_t i = 0; i < sources->count; i++)
        heap_free((void *)(uintptr_t)sources->items[i].text.data);
}

static void errors_clear(struct config_errors *errors)
{
    errors->count = 0;
    errors->dropped = 0;
}

static void reader_free(struct config_reader **reader)
{
    heap_free(*reader);
}

// Without the last slash, but for the root's own: then a path gets two, which is the same.
static struct slice folder_of(const char *path, bool folder)
{
    const char *slash = strrchr(path, '/');
    size_t len = folder ? strlen(path) : slash != NULL ? (size_t)(slash - path) : 0;
    while (len > 1 && path[len - 1] == '/')
        len--;
    // A file below the root: "/" it is, not nothing.
    return len == 0 && slash != NULL && !folder ? SLICE("/") : (struct slice){path, len};
}

enum status config_load(const char *path, struct config **config, struct config_errors *errors)
{
    errors_clear(errors);
    DEFER(reader_free) struct config_reader *reader = heap_alloc(1, sizeof *reader);
    if (reader == NULL)
        return STATUS_NO_MEMORY;
    reader->errors = errors;
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    reader->folder = folder_of(path, folder);
    enum status status = folder ? folder_read(reader, path) : source_read(reader, path);
    if (status == STATUS_OK)
        status = sources_load(reader, config);
    sources_free(&reader->sources);
    if (status == STATUS_NO_MEMORY)
        errors_clear(errors);
    return status;
}

enum status config_load_text(const char *name, struct slice yaml, struct config **config,
                             struct config_errors *errors)
{
    errors_clear(errors);
    DEFER(reader_free) struct config_reader *reader = heap_alloc(1, sizeof *reader);
    if (reader == NULL)
        return STATUS_NO_MEMORY;
    reader->errors = errors;
    struct config_source *source = source_add(reader, name);
    enum status status = STATUS_INVALID;
    if (yaml.len > CONFIG_FILE_BYTES_MAX) {
        config_error_mark(reader, 0, 0, 0, "the configuration is larger than %d MiB",
                          CONFIG_FILE_BYTES_MAX >> 20);
        return status;
    }
    source->text = yaml.data == NULL ? SLICE("") : yaml;
    status = sources_load(reader, config);
    if (status == STATUS_NO_MEMORY)
        errors_clear(errors);
    return status;
}

static enum status endpoints_read(struct config_reader *reader, struct config_version *version)
{
    struct config_node *root = NULL;
    if (config_nodes_parse(reader, 0, &root) != STATUS_OK)
        return STATUS_INVALID;
    if (root == NULL) {
        config_error_mark(reader, 0, 1, 1, "the list is empty; it needs at least 1");
        return STATUS_INVALID;
    }
    struct config_scope scope = {.section = &config_endpoints_section};
    config_section_read(reader, &scope, &config_endpoints_section, root, version);
    const struct config_node *list = config_endpoints_node(root);
    uint32_t count = version->endpoint_count;
    if (reader->errors->count > 0 || reader->no_memory)
        return STATUS_INVALID;
    config_endpoints_distinct(reader, list, version->endpoints, count);
    config_endpoints_loop(reader, list, version->endpoints, count);
    config_endpoints_names(reader, list, &version->origin, version->endpoints, count);
    return reader->errors->count > 0 ? STATUS_INVALID : STATUS_OK;
}

// Reads the last source, if that was read well.
static enum status endpoints_load(struct config_reader *reader, const struct config *config,
                                  const struct config_version *version, enum status status,
                                  struct config_endpoint **endpoints, uint32_t *count)
{
    struct config_version read = {.origin = version->origin};
    reader->config = heap_alloc(1, sizeof *reader->config); // takes notes
    if (reader->config == NULL)
        reader->no_memory = true;
    else
        *reader->config = *config;
    if (status == STATUS_OK && !reader->no_memory)
        status = endpoints_read(reader, &read);
    if (reader->no_memory)
        status = STATUS_NO_MEMORY;
    config_arena_free(&reader->arena);
    heap_free(reader->config);
    if (status == STATUS_OK) {
        *endpoints = read.endpoints;
        *count = read.endpoint_count;
        return STATUS_OK;
    }
    heap_free(read.endpoints);
    config_errors_sort(reader->errors);
    if (status == STATUS_NO_MEMORY)
        errors_clear(reader->errors);
    return status;
}

enum status config_endpoints_load(const struct config *config, const struct config_version *version,
                                  struct config_endpoint **endpoints, uint32_t *count,
                                  struct config_errors *errors)
{
    errors_clear(errors);
    DEFER(reader_free) struct config_reader *reader = heap_alloc(1, sizeof *reader);
    if (reader == NULL)
        return STATUS_NO_MEMORY;
    reader->errors = errors;
    reader->folder = folder_of(version->endpoints_file, false);
    enum status status = source_read(reader, version->endpoints_file);
    status = endpoints_load(reader, config, version, status, endpoints, count);
    sources_free(&reader->sources);
    return status;
}

enum status config_endpoints_load_text(const struct config *config, const struct config_version *version,
                                       const char *name, struct slice yaml,
                                       struct config_endpoint **endpoints, uint32_t *count,
                                       struct config_errors *errors)
{
    errors_clear(errors);
    DEFER(reader_free) struct config_reader *reader = heap_alloc(1, sizeof *reader);
    if (reader == NULL)
        return STATUS_NO_MEMORY;
    reader->errors = errors;
    source_add(reader, name)->text = yaml;
    return endpoints_load(reader, config, version, STATUS_OK, endpoints, count);
}

void config_destroy(struct config *config)
{
    if (config == NULL)
        return;
    config_section_free(&config_root_section, config);
    heap_free(config);
}
