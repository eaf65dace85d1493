// SPDX-License-Identifier: Apache-2.0
// supervise/channel: messages with and without a descriptor, an end that has gone, messages of other lengths.
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/supervise/channel.h"
#include "test.h"

TEST(a_message_and_its_descriptor_arrive)
{
    int ends[2], pipes[2], fd;
    assert_int_equal(channel_create(ends), STATUS_OK);
    assert_int_equal(pipe(pipes), 0);
    struct channel_message sent = {.word = CHANNEL_SOCKET, .number = 7, .text = "why"}, got;
    assert_int_equal(io_addr_parse("127.0.0.1:80", &sent.addr), STATUS_OK);
    assert_int_equal(channel_send(ends[0], &sent, pipes[1]), STATUS_OK);
    assert_int_equal(channel_send(ends[0], &(struct channel_message){.word = CHANNEL_BEGIN}, -1), STATUS_OK);
    assert_int_equal(channel_receive(ends[1], 0, &got, &fd), STATUS_OK);
    assert_memory_equal(&got, &sent, sizeof got);
    assert_true(fd >= 0 && fd != pipes[1]);
    struct stat ours, theirs;
    assert_int_equal(fstat(pipes[1], &ours), 0);
    assert_int_equal(fstat(fd, &theirs), 0);
    assert_int_equal(ours.st_ino, theirs.st_ino);
    close(fd);
    assert_int_equal(channel_receive(ends[1], 0, &got, &fd), STATUS_OK);
    assert_int_equal(got.word, CHANNEL_BEGIN);
    assert_int_equal(fd, -1);
    assert_int_equal(channel_receive(ends[1], 0, &got, &fd), STATUS_TIMEOUT);
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], 1000, &got, &fd), STATUS_CLOSED);
    assert_int_equal(channel_send(ends[1], &sent, -1), STATUS_CLOSED);
    close(ends[1]);
    close(pipes[0]);
    close(pipes[1]);
}

// The other end may be of another version: what it does not say is zero, what it says more is not read.
TEST(messages_of_another_version_are_read)
{
    int ends[2], fd;
    assert_int_equal(channel_create(ends), STATUS_OK);
    struct {
        struct channel_message message;
        char more[64];
    } longer = {.message = {.word = CHANNEL_BEAT, .number = 3}};
    memset(longer.message.text, 'x', sizeof longer.message.text);
    struct channel_message got;
    uint32_t word = CHANNEL_RETIRE;
    assert_int_equal(send(ends[0], &longer, sizeof longer, 0), sizeof longer);
    assert_int_equal(send(ends[0], &word, sizeof word, 0), sizeof word);
    assert_int_equal(channel_receive(ends[1], 0, &got, &fd), STATUS_OK);
    assert_int_equal(got.word, CHANNEL_BEAT);
    assert_int_equal(got.number, 3);
    assert_int_equal(strlen(got.text), sizeof got.text - 1);
    assert_int_equal(channel_receive(ends[1], 0, &got, &fd), STATUS_OK);
    assert_int_equal(got.word, CHANNEL_RETIRE);
    assert_int_equal(got.number, 0);
    assert_int_equal(got.text[0], '\0');
    close(ends[0]);
    close(ends[1]);
}
