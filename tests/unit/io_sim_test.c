// SPDX-License-Identifier: Apache-2.0
// The simulated world: one seed repeats everything, faults are really met, crashes look as they should from
// afar.
#include "base/check.h"
#include "net/io/sim.h"
#include "test.h"

enum { CLIENTS = 40, REQUEST_BYTES = 3000, REQUESTS = 20, SECOND_US = 1000000 };

// Clients that send REQUESTS requests of fixed length to a server that echoes; whatever fails is counted.
struct client {
    struct io_stream stream;
    struct scene *scene;
    uint32_t received;
    uint32_t done;
    struct io_timer timer;
};

struct served {
    struct io_stream stream;
    bool used;
};

struct scene {
    struct io_sim *sim;
    struct io_loop *server;
    struct io_loop *clients_loop;
    struct io_listener listener;
    struct io_addr addr;
    struct client clients[CLIENTS];
    struct served served[CLIENTS];
    uint32_t accepted, refused, broken, ended, completed, closed;
};

static uint8_t request_byte(const struct client *client, uint32_t position)
{
    return (uint8_t)(client->done + position / 7);
}

static void client_send(struct client *client)
{
    // In three parts, so that one could overtake another.
    for (uint32_t sent = 0; sent < REQUEST_BYTES;) {
        struct io_buf *buf = io_buf_get(client->scene->clients_loop);
        for (; buf->end < REQUEST_BYTES / 3; sent++)
            buf->data[buf->end++] = request_byte(client, sent);
        io_stream_send(&client->stream, buf);
    }
}

static void client_on_open(struct io_stream *stream, enum status status)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    if (status == STATUS_OK) {
        client_send(client);
        return;
    }
    client->scene->refused++;
    io_stream_close(stream);
}

static void client_next(struct io_timer *timer)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    client_send(client);
}

static void client_on_data(struct io_stream *stream, struct io_buf *buf)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    for (uint32_t i = buf->start; i < buf->end; i++)
        assert_int_equal(buf->data[i], request_byte(client, client->received + i - buf->start));
    client->received += io_buf_len(buf);
    io_buf_put(buf);
    assert_true(client->received <= REQUEST_BYTES);
    if (client->received < REQUEST_BYTES)
        return;
    client->received = 0;
    if (++client->done == REQUESTS) {
        client->scene->completed++;
        io_stream_close(stream);
        return;
    }
    io_timer_set(stream->loop, &client->timer, io_loop_now_us(stream->loop) + 2500);
}

static void client_on_end(struct io_stream *stream, enum status status)
{
    struct client *client = CONTAINER_OF(stream, struct client, stream);
    if (status == STATUS_CLOSED)
        client->scene->ended++;
    else
        client->scene->broken++;
    io_timer_clear(stream->loop, &client->timer);
    io_stream_close(stream);
}

static void client_on_closed(struct io_stream *stream)
{
    CONTAINER_OF(stream, struct client, stream)->scene->closed++;
}

static const struct io_stream_ops CLIENT_OPS = {.on_open = client_on_open,
                                                .on_data = client_on_data,
                                                .on_end = client_on_end,
                                                .on_closed = client_on_closed};

static void served_on_data(struct io_stream *stream, struct io_buf *buf)
{
    io_stream_send(stream, buf);
}

static void served_on_end(struct io_stream *stream, enum status status)
{
    (void)status;
    io_stream_close(stream);
}

static void served_on_closed(struct io_stream *stream)
{
    CONTAINER_OF(stream, struct served, stream)->used = false;
}

static const struct io_stream_ops SERVED_OPS = {
    .on_data = served_on_data, .on_end = served_on_end, .on_closed = served_on_closed};

static void on_accept(struct io_listener *listener, int handle, const struct io_addr *peer)
{
    struct scene *scene = CONTAINER_OF(listener, struct scene, listener);
    char text[IO_ADDR_TEXT_BYTES];
    io_addr_format_host(peer, text);
    assert_string_equal(text, "127.0.0.1");
    assert_true(scene->accepted < CLIENTS);
    struct served *served = &scene->served[scene->accepted++];
    served->used = true;
    io_stream_adopt(listener->loop, &served->stream, handle, &SERVED_OPS);
}

static void scene_begin(struct scene *scene, const struct io_sim_config *config)
{
    memset(scene, 0, sizeof *scene);
    assert_int_equal(io_sim_create(config, &scene->sim), STATUS_OK);
    assert_int_equal(io_sim_loop_create(scene->sim, &scene->server), STATUS_OK);
    assert_int_equal(io_sim_loop_create(scene->sim, &scene->clients_loop), STATUS_OK);
    assert_int_equal(io_addr_parse("10.1.2.3:80", &scene->addr), STATUS_OK);
    scene->listener.on_accept = on_accept;
    assert_int_equal(io_listener_open(scene->server, &scene->listener, &scene->addr, false), STATUS_OK);
    for (int i = 0; i < CLIENTS; i++) {
        scene->clients[i].scene = scene;
        io_timer_init(&scene->clients[i].timer, client_next);
        io_stream_connect(scene->clients_loop, &scene->clients[i].stream, &scene->addr, &CLIENT_OPS);
    }
}

static void scene_end(struct scene *scene, bool server_lives)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (scene->clients[i].stream.loop != NULL)
            io_stream_close(&scene->clients[i].stream);
        if (server_lives && scene->served[i].used)
            io_stream_close(&scene->served[i].stream);
    }
    if (server_lives)
        io_listener_close(&scene->listener);
    io_sim_run(scene->sim, io_sim_now_us(scene->sim) + 60ULL * SECOND_US);
    assert_int_equal(scene->closed, CLIENTS);
    if (server_lives)
        assert_int_equal(io_loop_stats(scene->server)->bufs_in_use, 0);
    assert_int_equal(io_loop_stats(scene->clients_loop)->bufs_in_use, 0);
    io_loop_destroy(scene->server);
    io_loop_destroy(scene->clients_loop);
    io_sim_destroy(scene->sim);
}

static const struct io_sim_config CALM = {.seed = 1, .latency_us_min = 50, .latency_us_max = 500};
static const struct io_sim_config ROUGH = {.seed = 1,
                                           .latency_us_min = 50,
                                           .latency_us_max = 5000,
                                           .stall_ppm = 20000,
                                           .stall_us_max = 200000,
                                           .reset_ppm = 5000,
                                           .refuse_ppm = 100000,
                                           .fragment_ppm = 300000,
                                           .wall_start_ms = 1700000000000};

static struct scene scene;

static uint64_t run_seed(struct io_sim_config config, uint64_t seed, struct io_sim_faults *faults)
{
    config.seed = seed;
    scene_begin(&scene, &config);
    uint64_t events = io_sim_run(scene.sim, 30ULL * SECOND_US);
    assert_true(events > CLIENTS);
    uint64_t hash = io_sim_trace_hash(scene.sim);
    // Nothing hangs: each client completed, was refused or was broken.
    assert_int_equal(scene.completed + scene.refused + scene.broken + scene.ended, CLIENTS);
    assert_int_equal(scene.closed, CLIENTS);
    if (config.wall_start_ms != 0)
        assert_true(io_loop_wall_ms(scene.server) == config.wall_start_ms + 30000);
    *faults = *io_sim_faults(scene.sim);
    scene_end(&scene, true);
    return hash;
}

TEST(calm_world_completes)
{
    struct io_sim_faults faults;
    uint64_t hash = run_seed(CALM, 7, &faults);
    assert_true(hash != 0);
    assert_int_equal(scene.completed, CLIENTS);
    assert_int_equal(faults.stalls + faults.resets + faults.refusals + faults.fragments, 0);
}

TEST(seed_repeats_all)
{
    uint64_t last = 0;
    struct io_sim_faults total = {0};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct io_sim_faults first, second;
        uint64_t hash = run_seed(ROUGH, seed, &first);
        assert_true(hash == run_seed(ROUGH, seed, &second));
        assert_memory_equal(&first, &second, sizeof first);
        assert_true(hash != last);
        last = hash;
        total.stalls += first.stalls;
        total.resets += first.resets;
        total.refusals += first.refusals;
        total.fragments += first.fragments;
    }
    assert_true(total.stalls > 100 && total.resets > 100 && total.refusals > 50 && total.fragments > 1000);
}

// A fault switched on must not move what the others draw: stalls of no length change nothing, though each is
// hit.
TEST(fault_streams_are_independent)
{
    struct io_sim_config with = CALM;
    with.stall_ppm = 1000000;
    struct io_sim_faults faults;
    uint64_t hash = run_seed(CALM, 3, &faults);
    assert_true(run_seed(with, 3, &faults) == hash);
    assert_true(faults.stalls > CLIENTS);
}

TEST(crash_resets)
{
    scene_begin(&scene, &CALM);
    io_sim_run(scene.sim, 10000);
    assert_int_equal(scene.accepted, CLIENTS);
    io_sim_loop_crash(scene.server, false);
    io_sim_run(scene.sim, SECOND_US);
    assert_int_equal(scene.broken + scene.completed, CLIENTS);
    assert_int_equal(scene.completed, 0);
    // The address is free, and until somebody takes it connects are refused.
    struct client late = {.scene = &scene};
    io_stream_connect(scene.clients_loop, &late.stream, &scene.addr, &CLIENT_OPS);
    io_sim_run(scene.sim, 2 * SECOND_US);
    assert_int_equal(scene.refused, 1);
    scene.closed--;
    scene_end(&scene, false);
}

TEST(silent_crash_hangs)
{
    scene_begin(&scene, &CALM);
    io_sim_run(scene.sim, 10000);
    io_sim_loop_crash(scene.server, true);
    struct client late = {.scene = &scene};
    io_stream_connect(scene.clients_loop, &late.stream, &scene.addr, &CLIENT_OPS);
    io_sim_run(scene.sim, 10ULL * SECOND_US);
    assert_int_equal(scene.broken + scene.completed + scene.refused + scene.ended, 0);
    // A successor may take the address; whoever connects now is served.
    struct io_loop *successor;
    assert_int_equal(io_sim_loop_create(scene.sim, &successor), STATUS_OK);
    struct scene second = {.sim = scene.sim, .server = successor, .listener = {.on_accept = on_accept}};
    assert_int_equal(io_listener_open(successor, &second.listener, &scene.addr, false), STATUS_OK);
    struct client served = {.scene = &scene};
    io_timer_init(&served.timer, client_next);
    io_stream_connect(scene.clients_loop, &served.stream, &scene.addr, &CLIENT_OPS);
    io_sim_run(scene.sim, 20ULL * SECOND_US);
    assert_int_equal(scene.completed, 1);
    io_stream_close(&late.stream);
    io_listener_close(&second.listener);
    io_sim_run(scene.sim, 21ULL * SECOND_US);
    scene.closed -= 2;
    assert_int_equal(second.accepted, 1);
    io_loop_destroy(successor);
    scene_end(&scene, false);
}

// A peer that does not read holds the sender at one window.
TEST(window_bounds_the_sender)
{
    scene_begin(&scene, &CALM);
    io_sim_run(scene.sim, 1000000);
    assert_int_equal(scene.completed, CLIENTS);
    struct client client = {.scene = &scene};
    io_timer_init(&client.timer, client_next);
    scene.accepted = 0;
    io_stream_connect(scene.clients_loop, &client.stream, &scene.addr, &CLIENT_OPS);
    while (scene.accepted == 0)
        io_sim_run(scene.sim, io_sim_now_us(scene.sim) + 10);
    io_stream_pause(&scene.served[0].stream);
    for (int i = 0; i < 40; i++) {
        struct io_buf *buf = io_buf_get(scene.clients_loop);
        memset(buf->data, 1, IO_BUF_BYTES);
        buf->end = IO_BUF_BYTES;
        io_stream_send(&client.stream, buf);
    }
    io_sim_run(scene.sim, io_sim_now_us(scene.sim) + SECOND_US);
    assert_true(io_stream_pending(&client.stream) >= 40 * IO_BUF_BYTES - 262144);
    io_stream_abort(&client.stream);
    io_sim_run(scene.sim, io_sim_now_us(scene.sim) + SECOND_US);
    scene.closed--;
    scene_end(&scene, true);
}
