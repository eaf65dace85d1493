// SPDX-License-Identifier: Apache-2.0
// A name server on loopback, on a thread of its own, that says what a test tells it to.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "net/names/names.h"
#include "test.h"

enum {
    WORLD_RECORDS_MAX = 8,
    WORLD_NAME_BYTES = 64,
    WORLD_PACKET_BYTES = 65535,
    WORLD_WAIT_MS = 15000,
    WORLD_QUESTION_BYTES = 512
};
enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, TYPE_SRV = 33 };
enum { RCODE_OK = 0, RCODE_SERVFAIL = 2, RCODE_NXDOMAIN = 3 };

enum world_way { WAY_ANSWER, WAY_SILENT, WAY_OTHER_NAME, WAY_CUT, WAY_CNAME_LOOP };

struct world_record {
    char name[WORLD_NAME_BYTES];
    int type;
    int rcode;
    enum world_way way;
    uint32_t ttl_s;
    uint32_t count;          // A: so many addresses from `address` on; SRV: one
    uint32_t address;        // host order
    uint16_t priority, port; // SRV
    char target[WORLD_NAME_BYTES];
};

struct world {
    int handle, listener;
    uint16_t port;
    char servers[32];
    pthread_t thread;
    pthread_mutex_t lock;
    bool stop;
    struct world_record records[WORLD_RECORDS_MAX];
    uint32_t record_count;
    _Atomic uint32_t asked_a; // questions for A records that came
};

struct packet {
    unsigned char bytes[WORLD_PACKET_BYTES];
    size_t len;
};

static inline void put(struct packet *packet, uint32_t value, size_t bytes)
{
    for (size_t i = bytes; i-- > 0;)
        packet->bytes[packet->len++] = (unsigned char)(value >> (8 * i));
}

static inline void put_name(struct packet *packet, const char *name)
{
    for (const char *label = name; *label != '\0';) {
        size_t len = strcspn(label, ".");
        put(packet, (uint32_t)len, 1);
        memcpy(packet->bytes + packet->len, label, len);
        packet->len += len;
        label += len + (label[len] == '.');
    }
    put(packet, 0, 1);
}

// The question's name and type; its end.
static inline size_t read_question(const unsigned char *asked, char *name, int *type)
{
    size_t at = 12, len = 0;
    for (; asked[at] != 0; at += asked[at] + 1u) {
        len += (size_t)snprintf(name + len, WORLD_NAME_BYTES - len, "%s%.*s", len > 0 ? "." : "", asked[at],
                                (const char *)asked + at + 1);
    }
    *type = asked[at + 1] << 8 | asked[at + 2];
    return at + 5;
}

static inline void put_record(struct packet *packet, const struct world_record *record, const char *name,
                              uint32_t i)
{
    if (name != NULL)
        put_name(packet, name);
    else
        put(packet, 0xc00c, 2); // as in the question
    put(packet, (uint32_t)record->type, 2);
    put(packet, 1, 2);
    put(packet, record->ttl_s, 4);
    if (record->type == TYPE_A) {
        put(packet, 4, 2);
        put(packet, record->address + i, 4);
        return;
    }
    put(packet, (uint32_t)strlen(record->target) + 8, 2);
    put(packet, record->priority, 2);
    put(packet, 1, 2);
    put(packet, record->port, 2);
    put_name(packet, record->target);
}

static inline void put_loop(struct packet *packet, const char *from, const char *to)
{
    put_name(packet, from);
    put(packet, TYPE_CNAME, 2);
    put(packet, 1, 2);
    put(packet, 1, 4);
    put(packet, (uint32_t)strlen(to) + 2, 2);
    put_name(packet, to);
}

// False: it stays silent.
static inline bool answer(struct world *world, const unsigned char *asked, struct packet *packet)
{
    char name[WORLD_NAME_BYTES];
    int type, rcode = RCODE_NXDOMAIN;
    uint32_t answers = 0;
    size_t end = read_question(asked, name, &type);
    memcpy(packet->bytes, asked, end);
    packet->len = end;
    memset(packet->bytes + 6, 0, 6);
    atomic_fetch_add(&world->asked_a, type == TYPE_A);
    for (uint32_t i = 0; i < world->record_count; i++) {
        const struct world_record *record = &world->records[i];
        if (strcmp(record->name, name) != 0)
            continue;
        if (record->way == WAY_SILENT)
            return false;
        rcode = record->rcode;
        if (record->type != type || rcode != RCODE_OK)
            continue;
        if (record->way == WAY_CNAME_LOOP) {
            put_loop(packet, name, "loop.example");
            put_loop(packet, "loop.example", name);
            answers += 2;
            continue;
        }
        for (uint32_t n = 0; n < record->count; n++, answers++)
            put_record(packet, record, record->way == WAY_OTHER_NAME ? "other.example" : NULL, n);
        if (record->way == WAY_CUT)
            packet->len -= 3;
    }
    packet->bytes[2] = 0x81;
    packet->bytes[3] = (unsigned char)(0x80 | rcode);
    packet->bytes[6] = (unsigned char)(answers >> 8);
    packet->bytes[7] = (unsigned char)answers;
    return true;
}

static inline void answer_datagram(struct world *world, struct packet *packet)
{
    unsigned char asked[WORLD_QUESTION_BYTES] = {0};
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    ssize_t len =
        recvfrom(world->handle, asked, sizeof asked - 1, MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    if (len > 16 && answer(world, asked, packet))
        (void)!sendto(world->handle, packet->bytes, packet->len, 0, (struct sockaddr *)&from, from_len);
}

// What is too long for a datagram is asked for again over a connection; one question each.
static inline void answer_connection(struct world *world, struct packet *packet)
{
    unsigned char asked[WORLD_QUESTION_BYTES] = {0};
    int peer = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return;
    ssize_t len = recv(peer, asked, sizeof asked - 1, 0);
    if (len > 18 && answer(world, asked + 2, packet)) {
        unsigned char prefix[2] = {(unsigned char)(packet->len >> 8), (unsigned char)packet->len};
        (void)!send(peer, prefix, sizeof prefix, MSG_NOSIGNAL);
        (void)!send(peer, packet->bytes, packet->len, MSG_NOSIGNAL);
    }
    close(peer);
}

static inline void *world_run(void *context)
{
    static struct packet packet;
    struct world *world = context;
    for (bool stop = false; !stop;) {
        struct pollfd waits[] = {{.fd = world->handle, .events = POLLIN},
                                 {.fd = world->listener, .events = POLLIN}};
        (void)poll(waits, 2, 20);
        pthread_mutex_lock(&world->lock);
        stop = world->stop;
        answer_datagram(world, &packet);
        if (waits[1].revents != 0)
            answer_connection(world, &packet);
        pthread_mutex_unlock(&world->lock);
    }
    return NULL;
}

// One port for both protocols. False: what was chosen for the one is taken in the other.
static inline bool world_bind(struct world *world)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    world->handle = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    world->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(world->handle >= 0 && world->listener >= 0);
    assert_int_equal(bind(world->handle, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(world->handle, (struct sockaddr *)&at, &len), 0);
    world->port = ntohs(at.sin_port);
    if (bind(world->listener, (struct sockaddr *)&at, sizeof at) == 0)
        return true;
    close(world->handle);
    close(world->listener);
    return false;
}

static inline void world_open(struct world *world)
{
    *world = (struct world){.handle = -1};
    int tries = 0;
    while (!world_bind(world))
        assert_true(++tries < 100);
    assert_int_equal(listen(world->listener, 8), 0);
    snprintf(world->servers, sizeof world->servers, "127.0.0.1:%u", world->port);
    assert_int_equal(pthread_mutex_init(&world->lock, NULL), 0);
    assert_int_equal(pthread_create(&world->thread, NULL, world_run, world), 0);
}

static inline void world_close(struct world *world)
{
    pthread_mutex_lock(&world->lock);
    world->stop = true;
    pthread_mutex_unlock(&world->lock);
    assert_int_equal(pthread_join(world->thread, NULL), 0);
    close(world->handle);
    close(world->listener);
}

static inline void world_say(struct world *world, const struct world_record *records, uint32_t count)
{
    assert_true(count <= WORLD_RECORDS_MAX);
    pthread_mutex_lock(&world->lock);
    memcpy(world->records, records, count * sizeof *records);
    world->record_count = count;
    pthread_mutex_unlock(&world->lock);
}

#define WORLD_SAY(world, ...)                                                                                \
    world_say((world), (const struct world_record[]){__VA_ARGS__},                                           \
              sizeof((const struct world_record[]){__VA_ARGS__}) / sizeof(struct world_record))
