// SPDX-License-Identifier: Apache-2.0
// The token file. A secret is never kept: the file holds SHA-256 of it, and what a client shows is hashed and
// compared with every entry in constant time, so that neither the time nor the entry found tells anything of
// a secret nearly right. (A slow hash is for passwords; 256 random bits cannot be tried out.)
#include "net/web/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/text.h"
#include "net/web/tokens_read.h"

enum {
    SECRET_RANDOM_BYTES = 32,
    SECRET_LETTERS = 43, // 256 bits in base64url without padding
    FILE_BYTES_MAX = 1 << 20,
    LINE_BYTES_MAX = TOKENS_NAME_BYTES + TOKENS_ENVIRONMENT_BYTES + 80,
};

static const char PREFIX[] = "sluice_";

struct tokens {
    uint32_t count;
    struct token items[];
};

static bool hash_of(struct slice secret, uint8_t hash[32])
{
    unsigned len = 0;
    return EVP_Digest(secret.data, secret.len, hash, &len, EVP_sha256(), NULL) == 1 && len == 32;
}

// ---- reading ----

// Owned by root or by us, and nobody else may write it: who can add a line can let himself in.
static enum status check_owner(int file, const char *path, off_t *size, struct fault *fault)
{
    struct stat info;
    if (fstat(file, &info) != 0)
        return status_of_errno(errno);
    if (!S_ISREG(info.st_mode))
        return fault_set(fault, STATUS_INVALID, "%s: this is not a file", path);
    if ((info.st_uid != geteuid() && info.st_uid != 0) || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return fault_set(
            fault, STATUS_DENIED,
            "%s: others than its owner may write it (chmod 600 %s, owned by whom sluice runs as)", path,
            path);
    }
    if (info.st_size > FILE_BYTES_MAX)
        return fault_set(fault, STATUS_RANGE, "%s: larger than %d bytes", path, (int)FILE_BYTES_MAX);
    *size = info.st_size;
    return STATUS_OK;
}

static enum status read_all(int file, size_t size, char **bytes, size_t *len)
{
    char *data = heap_alloc(size + 1, 1);
    size_t have = 0;
    if (data == NULL)
        return STATUS_NO_MEMORY;
    while (have < size) {
        ssize_t n = read(file, data + have, size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            heap_free(data);
            return status_of_errno(errno);
        }
        if (n == 0)
            break;
        have += (size_t)n;
    }
    *bytes = data;
    *len = have;
    return STATUS_OK;
}

static enum status read_file(const char *path, char **bytes, size_t *len, struct fault *fault)
{
    off_t size = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : status_of_errno(errno);
    enum status status = check_owner(file, path, &size, fault);
    if (status == STATUS_OK)
        status = read_all(file, (size_t)size, bytes, len);
    close(file);
    return status;
}

static void say_status(enum status status, const char *path, struct fault *fault)
{
    (void)fault_set(fault, status, "%s: %s", path,
                    status == STATUS_NOT_FOUND   ? "there is no such file"
                    : status == STATUS_DENIED    ? "it may not be read by whom sluice runs as"
                    : status == STATUS_NO_MEMORY ? "no memory left"
                                                 : "it cannot be read");
}

static enum status read_lines(struct tokens *tokens, struct slice rest, const char *path, struct fault *fault)
{
    for (uint32_t line = 1; rest.len > 0; line++) {
        struct token token;
        struct fault why;
        enum status status = tokens_line_read(tokens_line_next(&rest), &token, &why);
        if (status == STATUS_NOT_FOUND)
            continue;
        if (status == STATUS_OK && tokens->count == TOKENS_MAX)
            status = fault_set(&why, STATUS_RANGE, "more tokens than a file may have (%d)", TOKENS_MAX);
        for (uint32_t i = 0; i < tokens->count && status == STATUS_OK; i++) {
            bool same = strcmp(tokens->items[i].name, token.name) == 0;
            if (same || memcmp(tokens->items[i].hash, token.hash, sizeof token.hash) == 0)
                status =
                    fault_set(&why, STATUS_INVALID, "%s",
                              same ? "the name is taken by a line above" : "the same token stands above");
        }
        if (status != STATUS_OK) {
            (void)fault_set(fault, status, "%s:%u: %s", path, line, why.text);
            fault->line = line;
            return status;
        }
        tokens->items[tokens->count++] = token;
    }
    return STATUS_OK;
}

enum status tokens_load(const char *path, struct tokens **out, struct fault *fault)
{
    char *bytes = NULL;
    size_t len = 0;
    fault->text[0] = '\0';
    enum status status = read_file(path, &bytes, &len, fault);
    struct tokens *tokens =
        status == STATUS_OK ? heap_alloc(1, sizeof *tokens + TOKENS_MAX * sizeof *tokens->items) : NULL;
    if (status == STATUS_OK && tokens == NULL)
        status = STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = read_lines(tokens, (struct slice){bytes, len}, path, fault);
    if (status != STATUS_OK && fault->text[0] == '\0')
        say_status(status, path, fault);
    heap_free(bytes);
    if (status != STATUS_OK) {
        heap_free(tokens);
        return status;
    }
    *out = tokens;
    return STATUS_OK;
}

void tokens_destroy(struct tokens *tokens)
{
    heap_free(tokens);
}

// ---- asking ----

const struct token *tokens_find(const struct tokens *tokens, struct slice secret)
{
    uint8_t hash[32];
    const struct token *found = NULL;
    if (secret.len == 0 || !hash_of(secret, hash))
        return NULL;
    for (uint32_t i = 0; i < tokens->count; i++) {
        bool same = CRYPTO_memcmp(tokens->items[i].hash, hash, sizeof hash) == 0;
        found = same ? &tokens->items[i] : found;
    }
    return found;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

// RFC 6750 2.1; the scheme's name in any case (RFC 9110 11.1).
struct slice tokens_of_fields(struct slice authorization, struct slice api_key)
{
    static const struct slice BEARER = SLICE("bearer");
    struct slice scheme = {authorization.data, BEARER.len};
    struct slice token = {"", 0};
    if (authorization.len > BEARER.len && slice_equal_nocase(scheme, BEARER) &&
        is_blank(authorization.data[BEARER.len])) {
        token = (struct slice){authorization.data + BEARER.len, authorization.len - BEARER.len};
        while (token.len > 0 && is_blank(token.data[0]))
            token = (struct slice){token.data + 1, token.len - 1};
    }
    return token.len > 0 ? token : api_key;
}

// ---- making ----

static bool random_bytes(uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(bytes, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

// RFC 4648 5, without padding.
static void write_letters(const uint8_t bytes[SECRET_RANDOM_BYTES], char letters[SECRET_LETTERS])
{
    static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (unsigned i = 0; i < SECRET_LETTERS; i++) {
        unsigned bit = i * 6, at = bit / 8;
        unsigned pair = (unsigned)bytes[at] << 8 | (at + 1 < SECRET_RANDOM_BYTES ? bytes[at + 1] : 0u);
        letters[i] = ALPHABET[pair >> (10 - bit % 8) & 63];
    }
}

enum status tokens_make(const char *name, enum token_kind kind, const char *environment,
                        char secret[TOKENS_SECRET_BYTES], char *line, uint32_t line_cap)
{
    uint8_t bytes[SECRET_RANDOM_BYTES], hash[32];
    char fresh[TOKENS_SECRET_BYTES];
    if (!tokens_word_valid(slice_of(name), TOKENS_NAME_BYTES) ||
        !tokens_word_valid(slice_of(environment), TOKENS_ENVIRONMENT_BYTES) || name[0] == '#')
        return STATUS_INVALID;
    if (!random_bytes(bytes, sizeof bytes))
        return STATUS_IO;
    memcpy(fresh, PREFIX, sizeof PREFIX - 1);
    write_letters(bytes, fresh + sizeof PREFIX - 1);
    fresh[sizeof PREFIX - 1 + SECRET_LETTERS] = '\0';
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (!hash_of(slice_of(fresh), hash))
        return STATUS_NO_MEMORY;
    char entry[LINE_BYTES_MAX];
    struct text text = text_over(entry, sizeof entry);
    text_addf(&text, "%s %s %s ", name, kind == TOKEN_SERVER ? "server" : "read", environment);
    for (size_t i = 0; i < sizeof hash; i++)
        text_addf(&text, "%02x", hash[i]);
    CHECK(!text.cut);
    if (text.len < line_cap) {
        memcpy(line, entry, text.len + 1);
        memcpy(secret, fresh, sizeof PREFIX + SECRET_LETTERS);
    }
    OPENSSL_cleanse(fresh, sizeof fresh);
    return text.len < line_cap ? STATUS_OK : STATUS_FULL;
}
