// SPDX-License-Identifier: Apache-2.0
// Alternate screen, no echo, no line mode. Signal handlers only set flags.
#include "daemon/cli/screen.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/heap.h"

struct cli_screen {
    FILE *out;
    struct termios before;
    struct sigaction before_int, before_term, before_winch;
    char *last;
};

static volatile sig_atomic_t screen_left;
static volatile sig_atomic_t screen_resized;

static void on_leave(int number)
{
    (void)number;
    screen_left = 1;
}

static void on_resize(int number)
{
    (void)number;
    screen_resized = 1;
}

struct cli_screen *cli_screen_open(FILE *out)
{
    if (isatty(STDIN_FILENO) != 1 || isatty(fileno(out)) != 1)
        return NULL;
    struct cli_screen *screen = heap_alloc(1, sizeof *screen);
    if (screen == NULL || tcgetattr(STDIN_FILENO, &screen->before) != 0) {
        heap_free(screen);
        return NULL;
    }
    screen->out = out;
    screen_left = 0;
    struct sigaction leave = {.sa_handler = on_leave};
    struct sigaction resize = {.sa_handler = on_resize};
    sigaction(SIGINT, &leave, &screen->before_int);
    sigaction(SIGTERM, &leave, &screen->before_term);
    sigaction(SIGWINCH, &resize, &screen->before_winch);
    struct termios raw = screen->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs("\033[?1049h\033[?25l\033[H\033[2J", out);
    fflush(out);
    return screen;
}

void cli_screen_close(struct cli_screen *screen)
{
    if (screen == NULL)
        return;
    fputs("\033[?25h\033[?1049l", screen->out);
    if (screen->last != NULL)
        fprintf(screen->out, "%s\n", screen->last);
    fflush(screen->out);
    tcsetattr(STDIN_FILENO, TCSANOW, &screen->before);
    sigaction(SIGINT, &screen->before_int, NULL);
    sigaction(SIGTERM, &screen->before_term, NULL);
    sigaction(SIGWINCH, &screen->before_winch, NULL);
    heap_free(screen->last);
    heap_free(screen);
}

void cli_screen_show(struct cli_screen *screen, struct slice frame)
{
    fputs("\033[H", screen->out);
    for (size_t i = 0; i < frame.len;) {
        const char *end = memchr(frame.data + i, '\n', frame.len - i);
        size_t len = end != NULL ? (size_t)(end - frame.data) - i : frame.len - i;
        // The last line of a full screen must not scroll it.
        fprintf(screen->out, "%s%.*s\033[K", i > 0 ? "\r\n" : "", (int)len, frame.data + i);
        i += len + 1;
    }
    fputs("\033[J", screen->out);
    fflush(screen->out);
    heap_free(screen->last);
    screen->last = heap_strndup(frame.data, frame.len);
}

int cli_screen_wait(struct cli_screen *screen, uint64_t wait_ms)
{
    (void)screen;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int ready = screen_left ? 0 : poll(&input, 1, (int)wait_ms);
    if (screen_left)
        return 'q';
    if (screen_resized) {
        screen_resized = 0;
        return 0;
    }
    char key = 0;
    if (ready <= 0)
        return 0;
    return read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
}
