// SPDX-License-Identifier: Apache-2.0
// A strict reader of the Prometheus text format for tests: every line, name, label, escape and number, HELP
// and TYPE once and before the samples, no series twice, histogram buckets rising and ending in +Inf ==
// _count.
#pragma once

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct exposition_family {
    char name[128];
    char type[16];
    bool samples;
};

struct exposition {
    struct exposition_family families[256];
    size_t family_count;
    size_t samples;
    const char *series[8192];
    size_t series_len[8192];
    double bucket_last; // of the histogram series being read
    bool bucket_open;
    bool bucket_inf;
    char error[256];
};

static bool exposition_fail(struct exposition *x, const char *what, const char *line)
{
    snprintf(x->error, sizeof x->error, "%s: %.*s", what, (int)strcspn(line, "\n"), line);
    return false;
}

static size_t exposition_name(const char *p, bool colon)
{
    if (!isalpha((unsigned char)*p) && *p != '_' && !(colon && *p == ':'))
        return 0;
    size_t n = 1;
    while (isalnum((unsigned char)p[n]) || p[n] == '_' || (colon && p[n] == ':'))
        n++;
    return n;
}

static struct exposition_family *exposition_find(struct exposition *x, const char *name, size_t len)
{
    for (size_t i = 0; i < x->family_count; i++)
        if (strlen(x->families[i].name) == len && memcmp(x->families[i].name, name, len) == 0)
            return &x->families[i];
    return NULL;
}

static bool exposition_comment(struct exposition *x, const char *line)
{
    bool help = strncmp(line, "# HELP ", 7) == 0;
    if (!help && strncmp(line, "# TYPE ", 7) != 0)
        return exposition_fail(x, "comment is neither HELP nor TYPE", line);
    const char *name = line + 7;
    size_t len = exposition_name(name, true);
    if (len == 0 || len >= 128 || name[len] != ' ')
        return exposition_fail(x, "bad name", line);
    struct exposition_family *family = exposition_find(x, name, len);
    if (help) {
        if (family != NULL || x->family_count == 256)
            return exposition_fail(x, "HELP twice", line);
        family = &x->families[x->family_count++];
        memset(family, 0, sizeof *family);
        memcpy(family->name, name, len);
        return true;
    }
    if (family == NULL || family->type[0] != '\0' || family != &x->families[x->family_count - 1])
        return exposition_fail(x, "TYPE twice, or not after its HELP", line);
    size_t type_len = strcspn(name + len + 1, "\n");
    if (type_len >= sizeof family->type)
        return exposition_fail(x, "bad type", line);
    memcpy(family->type, name + len + 1, type_len);
    if (strcmp(family->type, "counter") != 0 && strcmp(family->type, "gauge") != 0 &&
        strcmp(family->type, "histogram") != 0)
        return exposition_fail(x, "bad type", line);
    return true;
}

// Returns the end of {...}, or NULL. Copies the value of le when there is one.
static const char *exposition_labels(const char *p, char le[64])
{
    p++;
    for (;;) {
        size_t len = exposition_name(p, false);
        if (len == 0 || p[len] != '=' || p[len + 1] != '"')
            return NULL;
        bool is_le = len == 2 && memcmp(p, "le", 2) == 0;
        size_t le_len = 0;
        p += len + 2;
        for (; *p != '"'; p++) {
            if (*p == '\0' || *p == '\n')
                return NULL;
            if (*p == '\\' && (*++p != '\\' && *p != '"' && *p != 'n'))
                return NULL;
            if (is_le && le_len < 63)
                le[le_len++] = *p;
        }
        if (is_le)
            le[le_len] = '\0';
        p++;
        if (*p == '}')
            return p + 1;
        if (*p++ != ',')
            return NULL;
    }
}

static bool exposition_bucket(struct exposition *x, const char *suffix, const char *le, double value,
                              const char *line)
{
    if (strncmp(suffix, "_bucket", 7) == 0) {
        if (le[0] == '\0')
            return exposition_fail(x, "bucket without le", line);
        if (x->bucket_open && value < x->bucket_last)
            return exposition_fail(x, "buckets fall", line);
        x->bucket_open = true;
        x->bucket_last = value;
        x->bucket_inf = strcmp(le, "+Inf") == 0;
        return true;
    }
    if (strncmp(suffix, "_sum", 4) == 0)
        return x->bucket_inf ? true : exposition_fail(x, "no +Inf bucket", line);
    if (strncmp(suffix, "_count", 6) == 0) {
        bool equal = x->bucket_inf && value >= x->bucket_last && value <= x->bucket_last;
        x->bucket_open = false;
        x->bucket_inf = false;
        return equal ? true : exposition_fail(x, "_count is not the +Inf bucket", line);
    }
    return exposition_fail(x, "bad histogram suffix", line);
}

static bool exposition_sample(struct exposition *x, const char *line)
{
    size_t len = exposition_name(line, true);
    if (len == 0)
        return exposition_fail(x, "bad name", line);
    char le[64] = "";
    const char *p = line + len;
    if (*p == '{')
        p = exposition_labels(p, le);
    if (p == NULL || *p != ' ')
        return exposition_fail(x, "bad labels", line);
    size_t series_len = (size_t)(p - line);
    char *end;
    double value = strtod(p + 1, &end);
    if (end == p + 1 || *end != '\n')
        return exposition_fail(x, "bad value", line);
    struct exposition_family *family = x->family_count > 0 ? &x->families[x->family_count - 1] : NULL;
    if (family == NULL || family->type[0] == '\0' || strncmp(line, family->name, strlen(family->name)) != 0)
        return exposition_fail(x, "sample outside its family", line);
    const char *suffix = line + strlen(family->name);
    family->samples = true;
    for (size_t i = 0; i < x->samples; i++)
        if (x->series_len[i] == series_len && memcmp(x->series[i], line, series_len) == 0)
            return exposition_fail(x, "series twice", line);
    if (x->samples < 8192) {
        x->series[x->samples] = line;
        x->series_len[x->samples++] = series_len;
    }
    if (strcmp(family->type, "histogram") == 0)
        return exposition_bucket(x, suffix, le, value, line);
    if (len != strlen(family->name))
        return exposition_fail(x, "sample outside its family", line);
    if (strcmp(family->type, "counter") == 0 && !(value >= 0))
        return exposition_fail(x, "negative counter", line);
    return true;
}

// True when text is valid; else x->error says why. The text is NUL-terminated.
static bool exposition_check(struct exposition *x, const char *text)
{
    memset(x, 0, sizeof *x);
    while (*text != '\0') {
        const char *newline = strchr(text, '\n');
        if (newline == NULL)
            return exposition_fail(x, "last line does not end", text);
        if (!(*text == '#' ? exposition_comment(x, text) : exposition_sample(x, text)))
            return false;
        text = newline + 1;
    }
    return true;
}
