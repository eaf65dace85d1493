// SPDX-License-Identifier: Apache-2.0
// tls: bytes arrive whole both ways on every face of the loop, also when one side does not read and when
// buffers are few; sessions are resumed; certificates are chosen by name and checked; an end without a word
// is a failure, an end with one is not.
#include "base/check.h"
#include "folder.h"
#include "io_suite.h"
#include "net/tls/tls.h"

enum { PEERS = 24, PATTERN_STEP = 7 };

struct peer {
    struct io_stream stream;
    uint64_t received, sent, to_send, opened, ended, failed, closed;
    enum status open_status, end_status;
    bool wrong, echo, finish_when_sent, no_reads, paused, plain;
    struct tls_info info;
    const char *why;
};

struct world {
    struct io_loop *loop;
    struct io_listener listener;
    struct io_addr addr;
    char folder[FOLDER_PATH_BYTES];
    struct tls_tickets *tickets;
    struct tls_counts server_counts, client_counts;
    struct tls_server *server;
    struct tls_client *client;
    const char *name; // that clients ask for
    struct tls_resume resume;
    struct peer accepted[PEERS], clients[PEERS];
    uint32_t accepted_count;
    uint64_t accepted_to_send;
    bool plain; // the server does not speak TLS
};

static struct world *w;

static struct peer *peer_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct peer, stream);
}

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * PATTERN_STEP + (at >> 9));
}

static void pump(struct peer *peer)
{
    while (peer->sent < peer->to_send && io_stream_pending(&peer->stream) < 65536) {
        struct io_buf *buf = io_buf_get(peer->stream.loop);
        if (buf == NULL)
            return;
        while (io_buf_room(buf) > 0 && peer->sent < peer->to_send)
            buf->data[buf->end++] = pattern(peer->sent++);
        io_stream_send(&peer->stream, buf);
    }
    if (peer->finish_when_sent && peer->sent == peer->to_send) {
        peer->finish_when_sent = false;
        io_stream_finish(&peer->stream);
    }
}

static void on_open(struct io_stream *stream, enum status status)
{
    struct peer *peer = peer_of(stream);
    peer->opened++;
    peer->open_status = status;
    peer->why = tls_why(stream);
    if (status != STATUS_OK) {
        io_stream_close(stream);
        return;
    }
    assert_true(peer->plain || tls_info_get(stream, &peer->info));
    pump(peer);
}

static void on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct peer *peer = peer_of(stream);
    assert_int_equal(peer->ended + peer->failed, 0);
    assert_false(peer->paused);
    for (uint32_t i = buf->start; i < buf->end; i++)
        peer->wrong |= buf->data[i] != pattern(peer->received++);
    if (peer->no_reads) {
        peer->paused = true;
        io_stream_pause(stream);
    }
    if (peer->echo)
        io_stream_send(stream, buf);
    else
        io_buf_put(buf);
}

static void on_end(struct io_stream *stream, enum status status)
{
    struct peer *peer = peer_of(stream);
    peer->ended += status == STATUS_CLOSED;
    peer->failed += status != STATUS_CLOSED;
    peer->end_status = status;
    peer->why = tls_why(stream);
    (void)tls_info_get(stream, &peer->info);
    if (status == STATUS_CLOSED)
        io_stream_finish(stream);
    else
        io_stream_close(stream);
}

static void on_drain(struct io_stream *stream)
{
    pump(peer_of(stream));
}

static void on_closed(struct io_stream *stream)
{
    peer_of(stream)->closed++;
}

static const struct io_stream_ops OPS = {
    .on_open = on_open, .on_data = on_data, .on_end = on_end, .on_drain = on_drain, .on_closed = on_closed};

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *from)
{
    (void)from;
    assert_true(w->accepted_count < PEERS);
    struct peer *peer = &w->accepted[w->accepted_count++];
    peer->echo = w->accepted_to_send == 0;
    peer->to_send = w->accepted_to_send;
    io_stream_adopt(listener->loop, &peer->stream, handle, &OPS);
    if (!w->plain)
        assert_int_equal(tls_accept(w->server, &peer->stream), STATUS_OK);
    if (peer->to_send > 0)
        pump(peer); // before the handshake: it waits
}

static const char *file(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", w->folder, name);
    return path;
}

static void certify(const char *name, const char *const *names, int days)
{
    char certificate[64], key[64];
    struct fault fault;
    snprintf(certificate, sizeof certificate, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    assert_int_equal(tls_self_signed(names, days, file(certificate), file(key), &fault), STATUS_OK);
}

static void serve(const struct tls_server_config *config)
{
    struct fault fault;
    tls_server_destroy(w->server);
    w->server = NULL;
    enum status status = tls_server_create(config, w->tickets, &w->server_counts, &w->server, &fault);
    if (status != STATUS_OK)
        fail_msg("%s", fault.text);
}

static void serve_shop(enum tls_version version_min)
{
    struct tls_identity identity = {file("shop.pem"), file("shop.key"), NULL};
    serve(&(struct tls_server_config){
        .identities = &identity, .identity_count = 1, .version_min = version_min});
}

static void use_client(const struct tls_client_config *config, const char *name)
{
    w->name = name;
    struct fault fault;
    tls_client_destroy(w->client);
    w->client = NULL;
    enum status status = tls_client_create(config, &w->client_counts, &w->client, &fault);
    if (status != STATUS_OK)
        fail_msg("%s", fault.text);
}

static void world_make(uint32_t bufs_max)
{
    w = calloc(1, sizeof *w);
    assert_non_null(w);
    folder_make(w->folder);
    w->loop = loop_make(bufs_max);
    assert_int_equal(tls_tickets_create(&w->tickets), STATUS_OK);
    certify("shop", (const char *const[]){"shop.example", "*.shop.example", "127.0.0.1", NULL}, 30);
    serve_shop(TLS_1_2);
    use_client(&(struct tls_client_config){.verify = true, .ca = file("shop.pem")}, "shop.example");
    assert_int_equal(io_addr_parse("127.0.0.1:0", &w->addr), STATUS_OK);
    w->listener.on_accept = on_accept;
    assert_int_equal(io_listener_open(w->loop, &w->listener, &w->addr, false), STATUS_OK);
    io_listener_addr(&w->listener, &w->addr);
}

static void world_unmake(void)
{
    io_listener_close(&w->listener);
    for (int i = 0; i < PEERS; i++) {
        if (w->clients[i].stream.loop != NULL)
            io_stream_close(&w->clients[i].stream);
        if (w->accepted[i].stream.loop != NULL)
            io_stream_close(&w->accepted[i].stream);
    }
    run_for(w->loop, 50000);
    tls_resume_forget(&w->resume);
    tls_client_destroy(w->client);
    tls_server_destroy(w->server);
    tls_tickets_destroy(w->tickets);
    loop_unmake(w->loop);
    folder_remove(w->folder);
    free(w);
    w = NULL;
}

static struct peer *dial(int i, uint64_t to_send)
{
    struct peer *peer = &w->clients[i];
    peer->to_send = to_send;
    io_stream_connect(w->loop, &peer->stream, &w->addr, &OPS);
    assert_int_equal(tls_connect(w->client, &peer->stream, slice_of(w->name), &w->resume), STATUS_OK);
    return peer;
}

IO_TEST(bytes_arrive_whole)
{
    world_make(256);
    struct peer *peer = dial(0, 1 << 20);
    run_until(w->loop, &peer->received, 1 << 20);
    assert_false(peer->wrong);
    assert_false(w->accepted[0].wrong);
    assert_int_equal(w->accepted[0].received, 1 << 20);
    assert_int_equal(peer->info.version, TLS_1_3);
    assert_false(peer->info.resumed);
    assert_string_equal(peer->info.subject, "CN=shop.example");
    // One side ends, with a word; the other answers it; both are closed.
    io_stream_finish(&peer->stream);
    run_until(w->loop, &peer->ended, 1);
    assert_int_equal(w->accepted[0].ended, 1);
    assert_int_equal(w->accepted[0].failed + peer->failed, 0);
    assert_int_equal(w->server_counts.handshakes[TLS_1_3][0], 1);
    world_unmake();
}

IO_TEST(what_is_sent_before_the_handshake_waits)
{
    world_make(256);
    w->accepted_to_send = 300000;
    struct peer *peer = dial(0, 0);
    run_until(w->loop, &peer->received, 300000);
    assert_false(peer->wrong);
    assert_int_equal(io_stream_pending(&w->accepted[0].stream), 0);
    world_unmake();
}

IO_TEST(few_buffers_are_enough)
{
    world_make(12);
    for (int i = 0; i < 4; i++)
        (void)dial(i, 200000);
    for (int i = 0; i < 4; i++) {
        run_until(w->loop, &w->clients[i].received, 200000);
        assert_false(w->clients[i].wrong);
    }
    world_unmake();
}

IO_TEST(a_reader_that_pauses_loses_nothing)
{
    world_make(256);
    w->accepted_to_send = 500000;
    struct peer *peer = dial(0, 0);
    peer->no_reads = true;
    uint64_t last = 0;
    for (int i = 0; i < 400 && peer->received < 500000; i++) {
        run_for(w->loop, 2000);
        assert_true(peer->received >= last); // paused after each buffer
        last = peer->received;
        if (peer->opened > 0) {
            peer->paused = false;
            io_stream_resume(&peer->stream);
        }
    }
    assert_int_equal(peer->received, 500000);
    assert_false(peer->wrong);
    world_unmake();
}

IO_TEST(sessions_are_resumed)
{
    world_make(256);
    for (int version = 0; version < 2; version++) {
        serve_shop(TLS_1_2);
        use_client(&(struct tls_client_config){.verify = true, .ca = file("shop.pem")}, "shop.example");
        for (int i = 0; i < 3; i++) {
            struct peer *peer = dial(version * 8 + i, 1000);
            run_until(w->loop, &peer->received, 1000);
            assert_int_equal(peer->info.resumed, i > 0);
            io_stream_finish(&peer->stream);
            run_until(w->loop, &peer->ended, 1);
            // Another context takes the ticket of the first, as another thread's does.
            if (i == 0)
                serve_shop(TLS_1_2);
            if (i == 1)
                tls_tickets_rotate(w->tickets);
        }
        tls_tickets_rotate(w->tickets);
        tls_tickets_rotate(w->tickets);
        struct peer *peer = dial(version * 8 + 4, 1000); // its key is two rotations old
        run_until(w->loop, &peer->received, 1000);
        assert_false(peer->info.resumed);
    }
    assert_int_equal(w->server_counts.handshakes[TLS_1_3][1], 4);
    world_unmake();
}

IO_TEST(certificates_are_chosen_by_name)
{
    world_make(256);
    certify("other", (const char *const[]){"other.example", NULL}, 30);
    struct tls_identity identities[] = {{file("shop.pem"), file("shop.key"), NULL},
                                        {file("other.pem"), file("other.key"), NULL}};
    serve(&(struct tls_server_config){.identities = identities,
                                      .identity_count = 2,
                                      .alpn = (const char *const[]){"h2", "http/1.1", NULL}});
    static const struct {
        const char *name, *ca, *subject;
    } cases[] = {{"other.example", "other.pem", "CN=other.example"},
                 {"a.shop.example", "shop.pem", "CN=shop.example"},
                 {"127.0.0.1", "shop.pem", "CN=shop.example"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        use_client(&(struct tls_client_config){.verify = true,
                                               .ca = file(cases[i].ca),
                                               .alpn = (const char *const[]){"http/1.1", NULL}},
                   cases[i].name);
        struct peer *peer = dial((int)i, 10);
        run_until(w->loop, &peer->received, 10);
        assert_string_equal(peer->info.subject, cases[i].subject);
        assert_string_equal(peer->info.protocol, "http/1.1");
    }
    // Nothing in common (RFC 7301, 3.2).
    use_client(&(struct tls_client_config){.alpn = (const char *const[]){"ftp", NULL}}, "shop.example");
    struct peer *peer = dial(5, 10);
    run_until(w->loop, &peer->opened, 1);
    assert_int_not_equal(peer->open_status, STATUS_OK);
    assert_int_equal(w->client_counts.failures[TLS_FAILURE_REFUSED], 1);
    world_unmake();
}

IO_TEST(certificates_are_checked)
{
    world_make(256);
    certify("old", (const char *const[]){"shop.example", NULL}, 0);
    certify("unknown", (const char *const[]){"shop.example", NULL}, 30);
    static const struct {
        const char *served, *ca, *name, *why;
        enum tls_failure failure;
    } cases[] = {
        {"shop", "shop.pem", "wrong.example", "the peer's certificate is for another name", TLS_FAILURE_NAME},
        {"shop", "shop.pem", "127.0.0.2", "the peer's certificate is for another address", TLS_FAILURE_NAME},
        {"shop", "unknown.pem", "shop.example",
         "the peer's certificate signs itself, and is not among those believed", TLS_FAILURE_ISSUER},
        {"old", "old.pem", "shop.example", "the peer's certificate has expired", TLS_FAILURE_EXPIRED}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char certificate[64], key[64];
        snprintf(certificate, sizeof certificate, "%s.pem", cases[i].served);
        snprintf(key, sizeof key, "%s.key", cases[i].served);
        struct tls_identity identity = {file(certificate), file(key), NULL};
        serve(&(struct tls_server_config){.identities = &identity, .identity_count = 1});
        use_client(&(struct tls_client_config){.verify = true, .ca = file(cases[i].ca)}, cases[i].name);
        struct peer *peer = dial((int)i, 10);
        run_until(w->loop, &peer->closed, 1);
        assert_int_equal(peer->opened, 1);
        assert_int_equal(peer->open_status, STATUS_DENIED);
        assert_string_equal(peer->why, cases[i].why);
        assert_int_equal(w->client_counts.failures[cases[i].failure], i == 1 ? 2 : 1);
        run_until(w->loop, &w->accepted[i].failed, 1); // it was told why
        assert_int_equal(w->server_counts.failures[TLS_FAILURE_REFUSED], i + 1);
        // Whoever does not look gets through.
        use_client(&(struct tls_client_config){.verify = false}, cases[i].name);
        struct peer *blind = dial((int)i + 8, 10);
        run_until(w->loop, &blind->received, 10);
        w->accepted_count = (uint32_t)i + 1;
        io_stream_close(&blind->stream);
        run_until(w->loop, &blind->closed, 1);
        run_for(w->loop, 20000);
        memset(&w->accepted[i + 1], 0, sizeof w->accepted[0]);
    }
    world_unmake();
}

IO_TEST(clients_are_asked_for_certificates)
{
    world_make(256);
    certify("ann", (const char *const[]){"ann.example", NULL}, 30);
    certify("eve", (const char *const[]){"ann.example", NULL}, 30);
    struct tls_identity identity = {file("shop.pem"), file("shop.key"), NULL};
    serve(&(struct tls_server_config){
        .identities = &identity, .identity_count = 1, .client_ca = file("ann.pem"), .client_required = true});
    static const char *const ours[] = {"ann", NULL, "eve"};
    for (int i = 0; i < 3; i++) {
        char certificate[64], key[64];
        snprintf(certificate, sizeof certificate, "%s.pem", ours[i] != NULL ? ours[i] : "");
        snprintf(key, sizeof key, "%s.key", ours[i] != NULL ? ours[i] : "");
        use_client(&(struct tls_client_config){.certificate = ours[i] != NULL ? file(certificate) : NULL,
                                               .key = ours[i] != NULL ? file(key) : NULL},
                   "shop.example");
        struct peer *peer = dial(i, 10);
        if (i == 0) {
            run_until(w->loop, &peer->received, 10);
            io_stream_finish(&peer->stream);
            run_until(w->loop, &w->accepted[0].ended, 1);
            assert_string_equal(w->accepted[0].info.subject, "CN=ann.example");
            continue;
        }
        run_until(w->loop, &w->accepted[i].failed, 1);
        assert_int_equal(w->accepted[i].received, 0);
        assert_int_equal(w->server_counts.failures[i == 1 ? TLS_FAILURE_CERTIFICATE : TLS_FAILURE_ISSUER], 1);
    }
    world_unmake();
}

// Whose issuer was taken from the file is asked for a certificate again, whatever he resumes.
IO_TEST(sessions_end_with_their_issuer)
{
    world_make(256);
    certify("ca", (const char *const[]){"ann.example", NULL}, 30);
    certify("other", (const char *const[]){"other.example", NULL}, 30);
    struct tls_identity identity = {file("shop.pem"), file("shop.key"), NULL};
    struct tls_server_config config = {
        .identities = &identity, .identity_count = 1, .client_ca = file("ca.pem"), .client_required = true};
    serve(&config);
    use_client(&(struct tls_client_config){.certificate = file("ca.pem"), .key = file("ca.key")},
               "shop.example");
    for (int i = 0; i < 3; i++) {
        if (i == 2)
            assert_int_equal(rename(file("other.pem"), file("ca.pem")), 0);
        serve(&config); // as a reload does
        struct peer *peer = dial(i, 10);
        if (i == 2) {
            run_until(w->loop, &w->accepted[i].failed, 1);
            assert_int_equal(w->accepted[i].received, 0);
            break;
        }
        run_until(w->loop, &peer->received, 10);
        assert_int_equal(peer->info.resumed, i > 0);
        io_stream_finish(&peer->stream);
        run_until(w->loop, &peer->ended, 1);
    }
    world_unmake();
}

// A connection that ends without a word was cut: what came is not all.
IO_TEST(a_cut_is_a_failure)
{
    world_make(256);
    struct peer *peer = dial(0, 1000);
    run_until(w->loop, &peer->received, 1000);
    io_stream_close(&w->accepted[0].stream);
    run_until(w->loop, &peer->failed, 1);
    assert_int_equal(peer->ended, 0);
    assert_int_equal(peer->end_status, STATUS_RESET);
    assert_int_equal(w->client_counts.failures[TLS_FAILURE_CUT], 1);
    world_unmake();
}

// A session stands for the certificate that was seen: for that name, that client, and not for ever.
IO_TEST(sessions_stand_for_what_was_seen)
{
    world_make(256);
    certify("other", (const char *const[]){"other.example", NULL}, 30);
    static const struct {
        const char *ca, *name;
        bool older, resumed, served;
    } cases[] = {
        {"shop.pem", "shop.example", false, false, true},  {NULL, "shop.example", false, true, true},
        {NULL, "a.shop.example", false, false, true},      {NULL, "a.shop.example", false, true, true},
        {NULL, "a.shop.example", true, false, true},       {NULL, "other.example", false, false, false},
        {"other.pem", "shop.example", false, false, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        w->name = cases[i].name;
        if (cases[i].ca != NULL)
            use_client(&(struct tls_client_config){.verify = true, .ca = file(cases[i].ca)}, cases[i].name);
        w->resume.seen_s -= cases[i].older ? 3600 : 0;
        struct peer *peer = dial((int)i, 10);
        if (!cases[i].served) {
            run_until(w->loop, &peer->closed, 1);
            continue;
        }
        run_until(w->loop, &peer->received, 10);
        assert_int_equal(peer->info.resumed, cases[i].resumed);
    }
    world_unmake();
}

// Who is closed without a failure learns that it was no cut.
IO_TEST(an_end_is_said_before_a_close)
{
    world_make(256);
    struct peer *peer = dial(0, 1000);
    run_until(w->loop, &peer->received, 1000);
    tls_say_end(&peer->stream);
    io_stream_close(&peer->stream);
    run_until(w->loop, &w->accepted[0].ended, 1);
    assert_int_equal(w->accepted[0].failed, 0);
    world_unmake();
}

IO_TEST(a_handshake_that_is_given_up_is_counted)
{
    world_make(256);
    w->plain = true;
    w->accepted_to_send = 1; // no record yet
    struct peer *peer = dial(0, 10);
    run_until(w->loop, &w->accepted[0].received, 1);
    assert_int_equal(peer->opened, 0);
    io_stream_close(&peer->stream);
    run_until(w->loop, &peer->closed, 1);
    assert_int_equal(w->client_counts.failures[TLS_FAILURE_UNFINISHED], 1);
    world_unmake();
}

TEST(a_client_that_verifies_needs_a_name)
{
    use_kind(IO_KIND_SIM);
    world_make(256);
    char name[TLS_NAME_BYTES + 1];
    memset(name, 'x', sizeof name);
    struct peer *peer = &w->clients[0];
    io_stream_connect(w->loop, &peer->stream, &w->addr, &OPS);
    assert_int_equal(tls_connect(w->client, &peer->stream, SLICE(""), NULL), STATUS_INVALID);
    assert_int_equal(tls_connect(w->client, &peer->stream, (struct slice){name, TLS_NAME_BYTES}, NULL),
                     STATUS_INVALID);
    assert_false(tls_on(&peer->stream));
    // A final dot only says that the name is whole.
    assert_int_equal(tls_connect(w->client, &peer->stream, SLICE("shop.example."), NULL), STATUS_OK);
    peer->to_send = 10;
    run_until(w->loop, &peer->received, 10);
    world_unmake();
}

// Peers that do not speak TLS at all, on either side.
IO_TEST(garbage_is_refused)
{
    world_make(256);
    w->plain = true;
    w->accepted_to_send = 5000;
    struct peer *peer = dial(0, 10);
    run_until(w->loop, &peer->closed, 1);
    assert_int_equal(peer->opened, 1);
    assert_int_equal(peer->open_status, STATUS_DENIED);
    assert_int_equal(w->client_counts.failures[TLS_FAILURE_PROTOCOL], 1);
    w->plain = false;
    w->accepted_to_send = 0;
    struct peer *rude = &w->clients[1];
    rude->to_send = 5000;
    rude->plain = true;
    io_stream_connect(w->loop, &rude->stream, &w->addr, &OPS);
    run_until(w->loop, &w->accepted[1].failed, 1);
    assert_int_equal(w->accepted[1].received, 0);
    assert_int_equal(w->server_counts.failures[TLS_FAILURE_PROTOCOL], 1);
    world_unmake();
}

TEST(files_are_named_that_cannot_be_used)
{
    use_kind(IO_KIND_EPOLL);
    world_make(256);
    certify("other", (const char *const[]){"other.example", NULL}, 30);
    FILE *junk = fopen(file("junk.pem"), "w");
    fputs("this is no certificate\n", junk);
    fclose(junk);
    static const struct {
        const char *certificate, *key, *ocsp, *client_ca, *ciphers, *said;
    } cases[] = {
        {"none.pem", "shop.key", NULL, NULL, NULL,
         "none.pem: cannot be read as a certificate in PEM: No such file"},
        {"junk.pem", "shop.key", NULL, NULL, NULL,
         "junk.pem: cannot be read as a certificate in PEM: no start line"},
        {"shop.pem", "junk.pem", NULL, NULL, NULL,
         "junk.pem: cannot be read as a key in PEM without a passphrase"},
        {"shop.pem", "other.key", NULL, NULL, NULL, "other.key: the key is not that of"},
        {"shop.pem", "shop.key", "junk.pem", NULL, NULL, "junk.pem: is no OCSP response in DER"},
        {"shop.pem", "shop.key", NULL, "junk.pem", NULL, "junk.pem: cannot be read as certificates in PEM"},
        {"shop.pem", "shop.key", NULL, NULL, "NO-SUCH", "ciphers: none of 'NO-SUCH' is known"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_identity identity = {file(cases[i].certificate), file(cases[i].key),
                                        cases[i].ocsp != NULL ? file(cases[i].ocsp) : NULL};
        struct tls_server_config config = {.identities = &identity,
                                           .identity_count = 1,
                                           .client_ca =
                                               cases[i].client_ca != NULL ? file(cases[i].client_ca) : NULL,
                                           .ciphers = cases[i].ciphers};
        struct tls_server *server;
        struct fault fault;
        assert_int_equal(tls_server_create(&config, w->tickets, &w->server_counts, &server, &fault),
                         STATUS_INVALID);
        if (strstr(fault.text, cases[i].said) == NULL)
            fail_msg("said: %s", fault.text);
    }
    struct fault fault;
    assert_int_equal(
        tls_self_signed((const char *const[]){"x", NULL}, 1, file("shop.pem"), file("x.key"), &fault),
        STATUS_CONFLICT);
    assert_int_equal(access(file("x.key"), F_OK), -1);
    assert_true(tls_server_expires_ms(w->server) > 0);
    world_unmake();
}
