// SPDX-License-Identifier: Apache-2.0
// The serving process's end of the channel: one thread that gives signs of life and takes what is asked.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/supervise/supervise_private.h"
#include "net/io/kept.h"

enum { BEAT_MS = 25 };

// A process has one parent.
static struct {
    int channel; // -1: none
    bool running;
    pthread_t thread;
    atomic_bool over;
    _Atomic(const struct supervise_watch *) watch; // NULL: it does not serve yet
    pthread_mutex_t lock;                          // of what was refused
    uint32_t refused;
    char why[CHANNEL_TEXT_BYTES];
} self = {.channel = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

static void tell(enum channel_word word, uint32_t number)
{
    (void)!channel_send(self.channel, &(struct channel_message){.word = word, .number = number}, -1);
}

static enum status take_sockets(struct supervise_begin *begin)
{
    for (;;) {
        struct channel_message message;
        int fd;
        enum status status = channel_receive(self.channel, -1, &message, &fd);
        if (status != STATUS_OK)
            return STATUS_CLOSED;
        if (message.word == CHANNEL_SOCKET && fd >= 0) {
            status = io_kept_hold(&(struct io_kept){message.addr, fd});
            if (status != STATUS_OK)
                return status;
            continue;
        }
        if (fd >= 0)
            close(fd);
        if (message.word != CHANNEL_BEGIN)
            continue;
        begin->deaths = message.number;
        begin->careful = message.careful != 0;
        begin->upgraded = message.upgraded != 0;
        memcpy(begin->why, message.text, sizeof begin->why);
        return STATUS_OK;
    }
}

// Alone, it ends; before it serves there is nothing to end in an orderly way.
static void on_parent_gone(const struct supervise_watch *watch)
{
    if (watch == NULL)
        _exit(SUPERVISE_EXIT_START);
    watch->end(watch->context);
}

static void on_refused(const struct channel_message *message)
{
    pthread_mutex_lock(&self.lock);
    memcpy(self.why, message->text, sizeof self.why);
    self.refused++;
    pthread_mutex_unlock(&self.lock);
}

static void *give_signs(void *context)
{
    (void)context;
    while (!atomic_load(&self.over)) {
        struct channel_message message;
        int fd;
        enum status status = channel_receive(self.channel, BEAT_MS, &message, &fd);
        const struct supervise_watch *watch = atomic_load(&self.watch);
        if (status == STATUS_CLOSED) {
            on_parent_gone(watch);
            return NULL;
        }
        if (status == STATUS_OK && fd >= 0)
            close(fd);
        if (status == STATUS_OK && message.word == CHANNEL_RETIRE && watch != NULL)
            watch->retire(watch->context);
        if (status == STATUS_OK && message.word == CHANNEL_REFUSED)
            on_refused(&message);
        tell(CHANNEL_BEAT, watch != NULL ? (uint32_t)watch->stalled_ms(watch->context) : 0);
    }
    return NULL;
}

enum status supervise_join(struct supervise_begin *begin)
{
    const char *text = getenv(SUPERVISE_VARIABLE);
    memset(begin, 0, sizeof *begin);
    if (text == NULL)
        return STATUS_NOT_FOUND;
    CHECK(self.channel < 0);
    self.channel = (int)strtol(text, NULL, 10);
    unsetenv(SUPERVISE_VARIABLE); // what this process starts is not supervised
    io_kept_begin();
    tell(CHANNEL_LOADED, 0);
    enum status status = take_sockets(begin);
    if (status != STATUS_OK)
        return status;
    sigset_t every, before; // signals are for others
    sigfillset(&every);
    CHECK(pthread_sigmask(SIG_SETMASK, &every, &before) == 0);
    self.running = pthread_create(&self.thread, NULL, give_signs, NULL) == 0;
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return self.running ? STATUS_OK : STATUS_NO_MEMORY;
}

void supervise_serving(const struct supervise_watch *watch)
{
    CHECK(self.channel >= 0);
    uint32_t count;
    const struct io_kept *sockets = io_kept_end(&count);
    for (uint32_t i = 0; i < count; i++) {
        struct channel_message message = {.word = CHANNEL_SOCKET, .addr = sockets[i].wanted};
        (void)!channel_send(self.channel, &message, sockets[i].fd);
    }
    tell(CHANNEL_READY, 0);
    atomic_store(&self.watch, watch);
}

void supervise_retired(void)
{
    tell(CHANNEL_RETIRED, 0);
}

void supervise_reloaded(void)
{
    if (self.channel >= 0)
        tell(CHANNEL_RELOADED, 0);
}

enum status supervise_upgrade(void)
{
    if (self.channel < 0)
        return STATUS_NOT_FOUND;
    tell(CHANNEL_UPGRADE, 0);
    return STATUS_OK;
}

uint32_t supervise_refused(char why[CHANNEL_TEXT_BYTES])
{
    pthread_mutex_lock(&self.lock);
    uint32_t refused = self.refused;
    memcpy(why, self.why, sizeof self.why);
    pthread_mutex_unlock(&self.lock);
    return refused;
}

void supervise_leave(void)
{
    if (!self.running)
        return;
    atomic_store(&self.over, true);
    pthread_join(self.thread, NULL);
    self.running = false;
}
