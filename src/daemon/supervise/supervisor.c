// SPDX-License-Identifier: Apache-2.0
// The parent: one loop over signals, the channels of its processes, and the clock.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "daemon/supervise/policy.h"
#include "daemon/supervise/supervise_private.h"
#include "net/io/kept.h"

enum {
    LOOK_MS = 20,
    CHECK_MS = 5000,
    RETIRE_MS = 5000,  // for giving up listeners and journal; longer, and the process is killed
    TRIAL_MS = 20000,  // for another binary to be loaded, and to serve
    MESSAGES_MAX = 64, // of one process in one round
    SPARE_AGAIN_MS = 30000,
    SPARE_MS = 1000, // after a process began to serve, the next is loaded
};

struct process {
    pid_t pid; // 0: none
    int channel;
    bool retired;                 // has given up listeners and journal
    uint64_t asked_ms;            // retiring: since when
    char why[CHANNEL_TEXT_BYTES]; // it was killed; empty: it was not
};

enum upgrade { UPGRADE_NONE, UPGRADE_CHECKING, UPGRADE_LOADING, UPGRADE_RETIRING, UPGRADE_TRYING };

struct supervisor {
    const struct supervise_options *options;
    struct policy policy;
    struct process serving, leaving; // leaving: serves what it is connected with
    struct process spare;            // loaded, and waits to be told to begin
    struct process other;            // so does this one, of another binary
    uint64_t spare_ms;               // when one is due
    int signals;
    char path[PATH_MAX]; // of the program's file
    int program;         // what is started
    int trial;           // another binary, -1: none
    pid_t check;         // of the file by that; 0: none runs
    enum upgrade upgrade;
    bool served; // once
    bool stopping, over;
    int code;
    uint64_t start_ms;       // when the next start is due; 0: none is
    uint64_t trial_until_ms; // of what goes on of it
    struct io_kept sockets[IO_KEPT_MAX], told[IO_KEPT_MAX];
    uint32_t socket_count, told_count;
    char why[CHANNEL_TEXT_BYTES];
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#define SAY(sup, level, ...) log_write((sup)->options->log, level, __VA_ARGS__)

// ---- starting ----

static void hand_over(struct supervisor *sup)
{
    struct channel_message begin = {.word = CHANNEL_BEGIN,
                                    .number = sup->policy.deaths,
                                    .careful = sup->policy.careful,
                                    .upgraded = sup->upgrade == UPGRADE_TRYING};
    memcpy(begin.text, sup->why, sizeof begin.text);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < sup->socket_count && status == STATUS_OK; i++) {
        struct channel_message message = {.word = CHANNEL_SOCKET, .addr = sup->sockets[i].wanted};
        status = channel_send(sup->serving.channel, &message, sup->sockets[i].fd);
    }
    if (status == STATUS_OK)
        status = channel_send(sup->serving.channel, &begin, -1);
    if (status != STATUS_OK) // it died already, and is reaped
        SAY(sup, LOG_WARN, "a serving process took no sockets", NULL, 0);
}

static enum status spawn(struct supervisor *sup, int program, struct process *process)
{
    *process = (struct process){.pid = 0};
    return spawn_serving(program, sup->options->argv, &process->channel, &process->pid);
}

static enum status next_process(struct supervisor *sup)
{
    sup->spare_ms = UINT64_MAX; // when this one serves
    struct process *loaded = sup->upgrade == UPGRADE_TRYING ? &sup->other : &sup->spare;
    if (loaded->pid == 0)
        return spawn(sup, sup->program, &sup->serving);
    sup->serving = *loaded;
    *loaded = (struct process){.pid = 0};
    return STATUS_OK;
}

static void start(struct supervisor *sup)
{
    sup->start_ms = 0;
    enum status status = next_process(sup);
    policy_started(&sup->policy, now_ms());
    if (status == STATUS_OK) {
        hand_over(sup);
        return;
    }
    SAY(sup, LOG_ERROR, "no serving process can be started",
        LOG_FIELDS(LOG_TEXT("reason", status_name(status))));
    sup->start_ms = now_ms() + policy_died(&sup->policy, now_ms());
}

static void kill_for(struct process *process, const char *why)
{
    (void)snprintf(process->why, sizeof process->why, "%s", why);
    (void)kill(process->pid, SIGKILL);
}

// The one that is loaded is of a binary, or of a file, that is not in force any more.
static void renew_spare(struct supervisor *sup)
{
    if (sup->spare.pid != 0)
        (void)kill(sup->spare.pid, SIGKILL);
}

// ---- another binary ----

static void upgrade_end(struct supervisor *sup, bool taken)
{
    if (sup->trial >= 0) {
        int other = taken ? sup->program : sup->trial;
        if (taken)
            renew_spare(sup);
        sup->program = taken ? sup->trial : sup->program;
        close(other);
    }
    sup->trial = -1;
    sup->upgrade = UPGRADE_NONE;
}

static void upgrade_refuse(struct supervisor *sup, const char *why)
{
    struct channel_message message = {.word = CHANNEL_REFUSED};
    (void)snprintf(message.text, sizeof message.text, "%s", why);
    SAY(sup, LOG_ERROR, "no other binary takes over: the present one serves on",
        LOG_FIELDS(LOG_TEXT("binary", sup->path), LOG_TEXT("reason", why)));
    if (sup->serving.pid != 0)
        (void)!channel_send(sup->serving.channel, &message, -1);
}

static void upgrade_begin(struct supervisor *sup)
{
    if (sup->upgrade != UPGRADE_NONE || sup->leaving.pid != 0 || sup->serving.pid == 0 || sup->stopping) {
        upgrade_refuse(sup, "the last change of process is not over");
        return;
    }
    enum status status = spawn_program_at(sup->path, &sup->trial);
    if (status == STATUS_OK)
        status = spawn_check(sup->trial, sup->options->check_argv, &sup->check);
    if (status != STATUS_OK) {
        upgrade_end(sup, false);
        upgrade_refuse(sup, status_name(status));
        return;
    }
    sup->upgrade = UPGRADE_CHECKING;
    sup->trial_until_ms = now_ms() + CHECK_MS;
}

// Nothing has been given up yet.
static void upgrade_give_up(struct supervisor *sup, const char *why)
{
    upgrade_end(sup, false);
    upgrade_refuse(sup, why);
}

static void upgrade_checked(struct supervisor *sup, int status)
{
    char why[CHANNEL_TEXT_BYTES];
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    sup->check = 0;
    if (code < 0)
        (void)snprintf(why, sizeof why, "it does not end its check of the file");
    else
        (void)snprintf(why, sizeof why, "it does not take the file: its check ends with code %d", code);
    if (code == 0 && spawn(sup, sup->trial, &sup->other) != STATUS_OK)
        (void)snprintf(why, sizeof why, "it cannot be started");
    if (sup->other.pid == 0) {
        upgrade_give_up(sup, why);
        return;
    }
    sup->upgrade = UPGRADE_LOADING;
    sup->trial_until_ms = now_ms() + TRIAL_MS;
}

// Only now, so that nobody waits for what it takes to load it.
static void upgrade_loaded(struct supervisor *sup)
{
    if (sup->upgrade != UPGRADE_LOADING)
        return;
    if (sup->serving.pid == 0 || sup->stopping) {
        kill_for(&sup->other, "no process serves now");
        return;
    }
    SAY(sup, LOG_INFO, "another binary takes over", LOG_FIELDS(LOG_TEXT("binary", sup->path)));
    sup->upgrade = UPGRADE_RETIRING;
    sup->leaving = sup->serving;
    sup->leaving.asked_ms = now_ms();
    sup->serving = (struct process){.pid = 0};
    (void)!channel_send(sup->leaving.channel, &(struct channel_message){.word = CHANNEL_RETIRE}, -1);
}

static void on_trial_failed(struct supervisor *sup)
{
    char why[CHANNEL_TEXT_BYTES];
    (void)snprintf(why, sizeof why, "%s", sup->why);
    SAY(sup, LOG_ERROR, "the other binary does not serve: the one before is started again",
        LOG_FIELDS(LOG_TEXT("reason", why)));
    (void)snprintf(sup->why, sizeof sup->why, "the other binary did not serve: %.120s", why);
    upgrade_end(sup, false);
    sup->start_ms = now_ms();
}

// The process before has left listeners and journal.
static void upgrade_go(struct supervisor *sup)
{
    if (sup->upgrade != UPGRADE_RETIRING)
        return;
    sup->upgrade = UPGRADE_TRYING;
    sup->trial_until_ms = now_ms() + TRIAL_MS;
    (void)snprintf(sup->why, sizeof sup->why, "another binary was put in place");
    if (sup->other.pid == 0) // it died meanwhile
        on_trial_failed(sup);
    else
        start(sup);
}

// ---- what processes say ----

static void drop_sockets(struct io_kept *sockets, uint32_t *count)
{
    for (uint32_t i = 0; i < *count; i++)
        close(sockets[i].fd);
    *count = 0;
}

static void on_ready(struct supervisor *sup)
{
    drop_sockets(sup->sockets, &sup->socket_count);
    memcpy(sup->sockets, sup->told, sizeof sup->sockets[0] * sup->told_count);
    sup->socket_count = sup->told_count;
    sup->told_count = 0;
    sup->served = true;
    policy_ready(&sup->policy);
    sup->spare_ms = now_ms() + SPARE_MS;
    if (sup->upgrade == UPGRADE_TRYING)
        upgrade_end(sup, true);
}

static void on_beat(struct supervisor *sup, uint32_t stalled_ms)
{
    if (stalled_ms <= sup->options->hang_ms)
        policy_beat(&sup->policy);
}

static void on_message(struct supervisor *sup, struct process *process, const struct channel_message *message,
                       int fd)
{
    bool serving = process == &sup->serving;
    if (serving && message->word == CHANNEL_SOCKET && fd >= 0 && sup->told_count < IO_KEPT_MAX) {
        sup->told[sup->told_count++] = (struct io_kept){message->addr, fd};
        return;
    }
    if (fd >= 0)
        close(fd);
    if (serving && message->word == CHANNEL_READY)
        on_ready(sup);
    else if (serving && message->word == CHANNEL_BEAT)
        on_beat(sup, message->number);
    else if (serving && message->word == CHANNEL_RELOADED)
        renew_spare(sup);
    else if (serving && message->word == CHANNEL_UPGRADE)
        upgrade_begin(sup);
    else if (process == &sup->other && message->word == CHANNEL_LOADED)
        upgrade_loaded(sup);
    else if (process == &sup->leaving && message->word == CHANNEL_RETIRED) {
        process->retired = true;
        upgrade_go(sup);
    }
}

static void read_channel(struct supervisor *sup, struct process *process)
{
    for (int i = 0; i < MESSAGES_MAX && process->pid != 0; i++) {
        struct channel_message message;
        int fd;
        if (channel_receive(process->channel, 0, &message, &fd) != STATUS_OK)
            return; // its end is told by SIGCHLD
        on_message(sup, process, &message, fd);
    }
}

// ---- deaths ----

static void describe_end(const struct process *process, int status, char text[CHANNEL_TEXT_BYTES])
{
    if (process->why[0] != '\0')
        (void)snprintf(text, CHANNEL_TEXT_BYTES, "%s", process->why);
    else if (WIFSIGNALED(status))
        (void)snprintf(text, CHANNEL_TEXT_BYTES, "killed by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    else
        (void)snprintf(text, CHANNEL_TEXT_BYTES, "ended with code %d", WEXITSTATUS(status));
}

static void on_death(struct supervisor *sup, int status)
{
    describe_end(&sup->serving, status, sup->why);
    drop_sockets(sup->told, &sup->told_count);
    bool ended = WIFEXITED(status);
    bool asked = sup->stopping || (sup->policy.ready && ended && WEXITSTATUS(status) == 0);
    if (asked || (!sup->served && ended)) {
        sup->over = true;
        sup->code = ended ? WEXITSTATUS(status) : SUPERVISE_EXIT_START;
        return;
    }
    if (sup->upgrade == UPGRADE_TRYING) {
        on_trial_failed(sup);
        return;
    }
    uint64_t now = now_ms();
    bool careful = sup->policy.careful;
    uint64_t pause_ms = policy_died(&sup->policy, now);
    sup->start_ms = now + pause_ms;
    SAY(sup, LOG_ERROR, "the serving process died: another takes its place",
        LOG_FIELDS(LOG_TEXT("reason", sup->why), LOG_NUMBER("deaths", sup->policy.deaths),
                   LOG_NUMBER("after_ms", pause_ms)));
    if (sup->policy.careful && !careful)
        SAY(sup, LOG_ERROR,
            "too many deaths within a minute: from now on no rollout is moved forward until the daemon is "
            "started again",
            NULL, 0);
}

// Before it was told to begin.
static void on_other_death(struct supervisor *sup, int status)
{
    char how[CHANNEL_TEXT_BYTES], why[CHANNEL_TEXT_BYTES];
    describe_end(&sup->other, status, how);
    (void)snprintf(why, sizeof why, "it was not loaded: %.120s", how);
    if (sup->upgrade == UPGRADE_LOADING)
        upgrade_give_up(sup, why);
}

static void reap(struct supervisor *sup)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            return;
        if (pid == sup->check) {
            upgrade_checked(sup, status);
            continue;
        }
        struct process *process = pid == sup->serving.pid   ? &sup->serving
                                  : pid == sup->leaving.pid ? &sup->leaving
                                  : pid == sup->spare.pid   ? &sup->spare
                                  : pid == sup->other.pid   ? &sup->other
                                                            : NULL;
        if (process == NULL)
            continue;
        read_channel(sup, process);
        close(process->channel);
        process->pid = 0;
        if (process == &sup->serving)
            on_death(sup, status);
        else if (process == &sup->leaving)
            upgrade_go(sup);
        else if (process == &sup->other)
            on_other_death(sup, status);
        else // killed: it was to be renewed; ended: it cannot read the file, and says so
            sup->spare_ms = now_ms() + (WIFSIGNALED(status) ? SPARE_MS : SPARE_AGAIN_MS);
    }
}

// ---- signals and time ----

static void pass_on(const struct supervisor *sup, int number)
{
    if (sup->serving.pid != 0)
        (void)kill(sup->serving.pid, number);
    if (sup->leaving.pid != 0 && number != SIGHUP)
        (void)kill(sup->leaving.pid, number);
}

static void on_signal(struct supervisor *sup, uint32_t number)
{
    switch (number) {
    case SIGCHLD:
        reap(sup);
        break;
    case SIGUSR2:
        upgrade_begin(sup);
        break;
    case SIGHUP:
        pass_on(sup, SIGHUP);
        break;
    default:
        sup->stopping = true;
        pass_on(sup, (int)number);
        if (sup->serving.pid == 0)
            sup->over = true; // between two processes
        break;
    }
}

static void read_signals(struct supervisor *sup)
{
    struct signalfd_siginfo info;
    while (read(sup->signals, &info, sizeof info) == (ssize_t)sizeof info)
        on_signal(sup, info.ssi_signo);
}

static void look_at_clock(struct supervisor *sup)
{
    uint64_t now = now_ms();
    if (sup->start_ms != 0 && now >= sup->start_ms)
        start(sup);
    if (sup->spare.pid == 0 && now >= sup->spare_ms && !sup->stopping) {
        sup->spare_ms = UINT64_MAX;
        (void)!spawn(sup, sup->program, &sup->spare); // without one, the next is loaded when it is needed
    }
    bool hangs = policy_hangs(&sup->policy, now, sup->options->hang_ms);
    if (sup->serving.pid != 0 && hangs && sup->serving.why[0] == '\0') {
        char why[CHANNEL_TEXT_BYTES];
        (void)snprintf(why, sizeof why, "it gave no sign of life for %llu ms",
                       (unsigned long long)sup->policy.silent_ms);
        kill_for(&sup->serving, why);
    }
    if (sup->upgrade == UPGRADE_RETIRING && now - sup->leaving.asked_ms > RETIRE_MS && sup->leaving.pid != 0)
        kill_for(&sup->leaving, "it did not let go of its listeners");
    if (sup->check != 0 && now > sup->trial_until_ms)
        (void)kill(sup->check, SIGKILL);
    if (sup->upgrade == UPGRADE_LOADING && now > sup->trial_until_ms && sup->other.why[0] == '\0')
        kill_for(&sup->other, "it took too long");
    if (sup->upgrade == UPGRADE_TRYING && now > sup->trial_until_ms && sup->serving.pid != 0)
        kill_for(&sup->serving, "it did not serve in time");
}

static void wait_for_news(struct supervisor *sup)
{
    struct process *heard[] = {&sup->serving, &sup->leaving, &sup->other};
    struct pollfd news[1 + ARRAY_LEN(heard)] = {{.fd = sup->signals, .events = POLLIN}};
    for (size_t i = 0; i < ARRAY_LEN(heard); i++)
        news[i + 1] = (struct pollfd){.fd = heard[i]->pid != 0 ? heard[i]->channel : -1, .events = POLLIN};
    (void)poll(news, ARRAY_LEN(news), LOOK_MS);
    for (size_t i = 0; i < ARRAY_LEN(heard); i++)
        if (news[i + 1].revents != 0)
            read_channel(sup, heard[i]);
    if (news[0].revents != 0)
        read_signals(sup);
}

static enum status set_up(struct supervisor *sup)
{
    ssize_t length = readlink("/proc/self/exe", sup->path, sizeof sup->path - 1);
    if (length <= 0)
        return STATUS_IO;
    sup->path[length] = '\0';
    sigset_t set;
    sigemptyset(&set);
    static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        sigaddset(&set, numbers[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    sup->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return sup->signals < 0 ? status_of_errno(errno) : spawn_own_program(&sup->program);
}

int supervise_run(const struct supervise_options *options)
{
    static struct supervisor sup; // large, and there is one
    sup = (struct supervisor){
        .options = options, .trial = -1, .spare_ms = UINT64_MAX, .code = SUPERVISE_EXIT_START};
    enum status status = set_up(&sup);
    if (status != STATUS_OK) {
        SAY(&sup, LOG_ERROR, "no process can be supervised here",
            LOG_FIELDS(LOG_TEXT("reason", status_name(status))));
        return SUPERVISE_EXIT_START;
    }
    start(&sup);
    while (!sup.over) {
        wait_for_news(&sup);
        look_at_clock(&sup);
    }
    if (sup.check != 0)
        (void)kill(sup.check, SIGKILL);
    while (sup.leaving.pid != 0 && waitpid(sup.leaving.pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return sup.code;
}
