// SPDX-License-Identifier: Apache-2.0
// Reads a header from its first byte each time it is asked: what has come is held by the caller, and is
// short.
#include "net/http/proxy_header.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/slice.h"
#include "base/text.h"

enum { V2_SIGNATURE_BYTES = 12, V2_FIXED_BYTES = 16, COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 };

static const char V2_SIGNATURE[] = "\r\n\r\n\0\r\nQUIT\n";
static const char V1_BEGIN[] = "PROXY ";

// All of text that has come so far is there.
static bool begins(const char *data, size_t len, const char *text, size_t text_len)
{
    return memcmp(data, text, len < text_len ? len : text_len) == 0;
}

// ---- version 1: "PROXY TCP4 203.0.113.7 192.0.2.1 40001 443\r\n"

static struct slice next_word(struct slice *line)
{
    const char *end = line->len > 0 ? memchr(line->data, ' ', line->len) : NULL;
    struct slice word = {line->data, end != NULL ? (size_t)(end - line->data) : line->len};
    size_t used = word.len + (end != NULL);
    *line = (struct slice){line->data + used, line->len - used};
    return word;
}

static bool read_address(struct slice word, int family, uint8_t address[16])
{
    char text[INET6_ADDRSTRLEN];
    if (word.len >= sizeof text)
        return false;
    memcpy(text, word.data, word.len);
    text[word.len] = '\0';
    return strlen(text) == word.len && inet_pton(family, text, address) == 1;
}

static bool read_port(struct slice word, uint16_t *port)
{
    uint32_t value = 0;
    if (word.len == 0 || word.len > 5 || (word.data[0] == '0' && word.len > 1))
        return false;
    for (size_t i = 0; i < word.len; i++) {
        if (word.data[i] < '0' || word.data[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(word.data[i] - '0');
    }
    *port = (uint16_t)value;
    return value <= UINT16_MAX;
}

static enum status read_line(struct slice line, struct http_proxy_header *header)
{
    struct slice protocol = next_word(&line);
    bool ipv6 = slice_equal(protocol, SLICE("TCP6"));
    int family = ipv6 ? AF_INET6 : AF_INET;
    struct http_proxy_header told = {.family = ipv6 ? HTTP_PROXY_IPV6 : HTTP_PROXY_IPV4};
    uint8_t target[16];
    uint16_t target_port;
    if (slice_equal(protocol, SLICE("UNKNOWN"))) {
        header->family = HTTP_PROXY_NOBODY;
        return STATUS_OK;
    }
    bool sound = (ipv6 || slice_equal(protocol, SLICE("TCP4"))) &&
                 read_address(next_word(&line), family, told.address) &&
                 read_address(next_word(&line), family, target) && read_port(next_word(&line), &told.port) &&
                 read_port(line, &target_port);
    if (!sound)
        return STATUS_INVALID;
    *header = told;
    return STATUS_OK;
}

static enum status read_v1(const char *data, size_t len, struct http_proxy_header *header, size_t *header_len)
{
    const size_t begin = sizeof V1_BEGIN - 1;
    size_t most = len < HTTP_PROXY_HEADER_V1_BYTES_MAX ? len : HTTP_PROXY_HEADER_V1_BYTES_MAX;
    const char *end = memchr(data, '\n', most);
    if (end == NULL)
        return most == HTTP_PROXY_HEADER_V1_BYTES_MAX ? STATUS_INVALID : STATUS_AGAIN;
    if (end - data < (ptrdiff_t)begin + 1 || end[-1] != '\r')
        return STATUS_INVALID;
    enum status status = read_line((struct slice){data + begin, (size_t)(end - 1 - data) - begin}, header);
    if (status == STATUS_OK)
        *header_len = (size_t)(end + 1 - data);
    return status;
}

// ---- version 2

static uint16_t big_endian(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

// What stands behind the fixed part: both addresses, both ports, extensions.
static enum status read_addresses(uint8_t kind, const uint8_t *block, size_t len,
                                  struct http_proxy_header *header)
{
    static const uint8_t UNSPECIFIED = 0x00, TCP4 = 0x11, TCP6 = 0x21, UNIX_STREAM = 0x31;
    size_t bytes = kind == TCP4 ? 4 : 16;
    if (kind == UNSPECIFIED || kind == UNIX_STREAM) {
        header->family = HTTP_PROXY_NOBODY;
        return STATUS_OK;
    }
    if ((kind != TCP4 && kind != TCP6) || len < 2 * bytes + 4)
        return STATUS_INVALID;
    *header = (struct http_proxy_header){.family = kind == TCP4 ? HTTP_PROXY_IPV4 : HTTP_PROXY_IPV6,
                                         .port = big_endian(block + 2 * bytes)};
    memcpy(header->address, block, bytes);
    return STATUS_OK;
}

static enum status read_v2(const uint8_t *data, size_t len, struct http_proxy_header *header,
                           size_t *header_len)
{
    if (len > V2_SIGNATURE_BYTES && data[12] != COMMAND_LOCAL && data[12] != COMMAND_PROXY)
        return STATUS_INVALID;
    if (len < V2_FIXED_BYTES)
        return STATUS_AGAIN;
    size_t block = big_endian(data + 14);
    if (V2_FIXED_BYTES + block > HTTP_PROXY_HEADER_BYTES_MAX)
        return STATUS_INVALID;
    if (len < V2_FIXED_BYTES + block)
        return STATUS_AGAIN;
    enum status status = STATUS_OK;
    if (data[12] == COMMAND_LOCAL)
        header->family = HTTP_PROXY_NOBODY;
    else
        status = read_addresses(data[13], data + V2_FIXED_BYTES, block, header);
    if (status == STATUS_OK)
        *header_len = V2_FIXED_BYTES + block;
    return status;
}

// ---- writing

static size_t write_v1(const struct http_proxy_header *client, const struct http_proxy_header *target,
                       char *out)
{
    char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    bool ipv6 = client->family == HTTP_PROXY_IPV6;
    struct text text = text_over(out, HTTP_PROXY_HEADER_V1_BYTES_MAX);
    if (client->family == HTTP_PROXY_NOBODY) {
        text_add(&text, SLICE("PROXY UNKNOWN\r\n"));
        return text.len;
    }
    inet_ntop(ipv6 ? AF_INET6 : AF_INET, client->address, from, sizeof from);
    inet_ntop(ipv6 ? AF_INET6 : AF_INET, target->address, to, sizeof to);
    text_addf(&text, "PROXY %s %s %s %u %u\r\n", ipv6 ? "TCP6" : "TCP4", from, to, client->port,
              target->port);
    return text.len;
}

static uint8_t *put_big_endian(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static size_t write_v2(const struct http_proxy_header *client, const struct http_proxy_header *target,
                       uint8_t *out)
{
    size_t bytes = client->family == HTTP_PROXY_NOBODY ? 0 : client->family == HTTP_PROXY_IPV4 ? 4 : 16;
    memcpy(out, V2_SIGNATURE, V2_SIGNATURE_BYTES);
    out[12] = bytes == 0 ? COMMAND_LOCAL : COMMAND_PROXY;
    out[13] = bytes == 0 ? 0x00 : bytes == 4 ? 0x11 : 0x21;
    uint8_t *at = put_big_endian(out + 14, (uint16_t)(bytes == 0 ? 0 : 2 * bytes + 4));
    if (bytes == 0)
        return V2_FIXED_BYTES;
    memcpy(at, client->address, bytes);
    memcpy(at + bytes, target->address, bytes);
    at = put_big_endian(at + 2 * bytes, client->port);
    at = put_big_endian(at, target->port);
    return (size_t)(at - out);
}

size_t http_proxy_header_write(unsigned version, const struct http_proxy_header *client,
                               const struct http_proxy_header *target,
                               char out[HTTP_PROXY_HEADER_V1_BYTES_MAX])
{
    struct http_proxy_header to = {.family = client->family, .port = target->port};
    if (target->family == client->family)
        memcpy(to.address, target->address, sizeof to.address);
    return version == 1 ? write_v1(client, &to, out) : write_v2(client, &to, (uint8_t *)out);
}

// ----

enum status http_proxy_header_read(const char *data, size_t len, struct http_proxy_header *header,
                                   size_t *header_len)
{
    if (len == 0)
        return STATUS_AGAIN;
    if (begins(data, len, V1_BEGIN, sizeof V1_BEGIN - 1))
        return read_v1(data, len, header, header_len);
    if (begins(data, len, V2_SIGNATURE, V2_SIGNATURE_BYTES))
        return read_v2((const uint8_t *)data, len, header, header_len);
    return STATUS_INVALID;
}
