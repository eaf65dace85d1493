// SPDX-License-Identifier: Apache-2.0
// The filter: what comes is decrypted into buffers of the loop, what the owner sends is encrypted when the
// stream's queue leaves, so that all that was sent within one callback shares records and a system call.
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/utf8.h"
#include "net/io/filter.h"
#include "net/tls/tls_private.h"

struct session {
    struct io_filter filter;
    struct io_stream *stream;
    SSL *ssl;
    struct tls_context *context;
    struct io_buf *in;     // received, not read by OpenSSL yet
    struct io_buf *cipher; // to be sent, not full yet
    bool shaken;           // the handshake is over
    bool ended;            // the socket has ended
    bool finished;         // our last word is said
    bool failed;
    const char *why; // constant text; empty: it has not failed
};

static struct session *session_of(const struct io_stream *stream)
{
    return CONTAINER_OF(stream->filter, struct session, filter);
}

static bool is_shaking(const struct session *s)
{
    return !s->shaken && !SSL_in_before(s->ssl);
}

// ---- OpenSSL's way to the stream ----

static int bio_read(BIO *bio, char *to, int cap)
{
    struct session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (s->in == NULL) {
        BIO_set_retry_read(bio);
        return -1;
    }
    uint32_t len = io_buf_len(s->in) < (uint32_t)cap ? io_buf_len(s->in) : (uint32_t)cap;
    memcpy(to, s->in->data + s->in->start, len);
    s->in->start += len;
    if (io_buf_len(s->in) == 0) {
        struct io_buf *next = s->in->next;
        io_buf_put(s->in);
        s->in = next;
    }
    return (int)len;
}

static int bio_write(BIO *bio, const char *from, int len)
{
    struct session *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (s->cipher == NULL)
        s->cipher = io_buf_get(s->stream->loop);
    if (s->cipher == NULL) {
        BIO_set_retry_write(bio);
        return -1;
    }
    uint32_t room = io_buf_room(s->cipher);
    uint32_t taken = room < (uint32_t)len ? room : (uint32_t)len;
    memcpy(s->cipher->data + s->cipher->end, from, taken);
    s->cipher->end += taken;
    if (io_buf_room(s->cipher) == 0) {
        io_filter_send(s->stream, s->cipher);
        s->cipher = NULL;
    }
    return (int)taken;
}

static long bio_control(BIO *bio, int what, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    static _Atomic(BIO_METHOD *) method;
    BIO_METHOD *made = atomic_load(&method);
    if (made != NULL)
        return made;
    made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (made == NULL)
        return NULL;
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_METHOD *other = NULL;
    if (atomic_compare_exchange_strong(&method, &other, made))
        return made;
    BIO_meth_free(made);
    return other;
}

// ---- failures ----

static void push_cipher(struct session *s)
{
    struct io_buf *buf = s->cipher;
    s->cipher = NULL;
    if (buf != NULL)
        io_filter_send(s->stream, buf);
}

static void count_failure(struct session *s, enum tls_failure failure)
{
    if (!s->failed)
        atomic_fetch_add_explicit(&s->context->counts->failures[failure], 1, memory_order_relaxed);
    s->failed = true;
}

static void fail(struct session *s)
{
    count_failure(s, tls_failure_of(s->ssl, ERR_peek_error(), &s->why));
    ERR_clear_error();
    push_cipher(s); // the alert that says why
    io_filter_tell_failure(s->stream, STATUS_DENIED);
}

static void cut(struct session *s)
{
    s->why = "the connection ended without a word of TLS";
    count_failure(s, TLS_FAILURE_CUT);
    io_filter_tell_failure(s->stream, STATUS_RESET);
}

// What OpenSSL says of a call that did not succeed. True: it waits for the peer.
static bool waits(struct session *s, int result)
{
    switch (SSL_get_error(s->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return true;
    case SSL_ERROR_WANT_WRITE:
        io_filter_starved(s->stream);
        return true;
    default:
        return false;
    }
}

// ---- the handshake ----

static void handshake_done(struct session *s)
{
    s->shaken = true;
    bool old = SSL_version(s->ssl) < TLS1_3_VERSION;
    bool resumed = SSL_session_reused(s->ssl) != 0;
    atomic_fetch_add_explicit(&s->context->counts->handshakes[old ? TLS_1_2 : TLS_1_3][resumed], 1,
                              memory_order_relaxed);
    io_filter_tell_open(s->stream);
}

static void shake(struct session *s)
{
    ERR_clear_error();
    int result = SSL_do_handshake(s->ssl);
    if (result == 1) {
        push_cipher(s);
        handshake_done(s);
        return;
    }
    if (waits(s, result))
        push_cipher(s);
    else
        fail(s);
}

// ---- reading ----

// One buffer of what can be decrypted. NULL: nothing, or it has failed or ended, which was told.
static struct io_buf *decrypt(struct session *s)
{
    struct io_buf *buf = io_buf_get(s->stream->loop);
    if (buf == NULL) {
        io_filter_starved(s->stream);
        return NULL;
    }
    int result = 1;
    while (result > 0 && io_buf_room(buf) > 0) {
        ERR_clear_error();
        result = SSL_read(s->ssl, buf->data + buf->end, (int)io_buf_room(buf));
        if (result > 0)
            buf->end += (uint32_t)result;
    }
    if (io_buf_len(buf) > 0)
        return buf; // an end or a failure is met again
    io_buf_put(buf);
    if (SSL_get_error(s->ssl, result) == SSL_ERROR_ZERO_RETURN)
        io_filter_tell_end(s->stream);
    else if (!waits(s, result))
        fail(s);
    return NULL;
}

static void pump(struct session *s)
{
    struct io_stream *stream = s->stream;
    if (!s->shaken)
        shake(s);
    bool more = s->shaken;
    while (more && !io_filter_dead(stream)) {
        if (io_filter_paused(stream)) {
            s->filter.waiting = true;
            return;
        }
        struct io_buf *buf = decrypt(s);
        more = buf != NULL;
        if (more)
            io_filter_tell_data(stream, buf);
    }
    if (io_filter_dead(stream))
        return;
    push_cipher(s); // keys that are renewed
    if (s->ended && !s->filter.waiting && (SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN) == 0)
        cut(s);
}

static void on_opened(struct io_stream *stream)
{
    pump(session_of(stream));
}

static void on_received(struct io_stream *stream, struct io_buf *buf)
{
    struct session *s = session_of(stream);
    // After its goodbye a peer says nothing more that counts, however long the stream still lives to answer
    // it.
    if ((SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN) != 0) {
        io_buf_put(buf);
        return;
    }
    struct io_buf **place = &s->in;
    while (*place != NULL)
        place = &(*place)->next;
    buf->next = NULL;
    *place = buf;
    pump(s);
}

static void on_ended(struct io_stream *stream)
{
    struct session *s = session_of(stream);
    s->ended = true;
    pump(s);
}

// ---- writing ----

// True: all of it was taken.
static bool encrypt(struct session *s, struct io_buf *buf)
{
    while (io_buf_len(buf) > 0) {
        ERR_clear_error();
        int result = SSL_write(s->ssl, buf->data + buf->start, (int)io_buf_len(buf));
        if (result <= 0) {
            if (!waits(s, result))
                fail(s);
            return false;
        }
        buf->start += (uint32_t)result;
        s->stream->filter_pending -= (uint32_t)result;
    }
    return true;
}

static void on_flush(struct io_stream *stream)
{
    struct session *s = session_of(stream);
    if (io_filter_dead(stream))
        return;
    while (s->shaken && s->filter.out_head != NULL && encrypt(s, s->filter.out_head))
        io_buf_put(io_filter_take(stream));
    if (io_filter_dead(stream))
        return;
    // Before the handshake is over there is nobody to say it to.
    if (s->filter.finishing && s->filter.out_head == NULL && !s->finished) {
        s->finished = true;
        if (s->shaken)
            (void)SSL_shutdown(s->ssl);
        push_cipher(s);
        io_filter_finish(stream);
    }
    push_cipher(s);
}

static void on_ready(struct io_stream *stream)
{
    struct session *s = session_of(stream);
    if (!io_filter_dead(stream))
        pump(s);
    on_flush(stream);
}

// ---- life ----

static void session_free(struct session *s)
{
    while (s->in != NULL) {
        struct io_buf *next = s->in->next;
        io_buf_put(s->in);
        s->in = next;
    }
    io_buf_put(s->cipher);
    SSL_free(s->ssl);
    tls_context_put(s->context);
    heap_free(s);
}

static void on_closed(struct io_filter *filter)
{
    struct session *s = CONTAINER_OF(filter, struct session, filter);
    if (is_shaking(s))
        count_failure(s, TLS_FAILURE_UNFINISHED);
    session_free(s);
}

static const struct io_filter_ops OPS = {.opened = on_opened,
                                         .received = on_received,
                                         .ended = on_ended,
                                         .flush = on_flush,
                                         .ready = on_ready,
                                         .closed = on_closed};

enum status tls_begin(struct tls_context *context, struct io_stream *stream, SSL *ssl)
{
    struct session *s = heap_alloc(1, sizeof *s);
    BIO_METHOD *method = bio_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    if (s == NULL || ssl == NULL || bio == NULL) {
        BIO_free(bio);
        SSL_free(ssl);
        heap_free(s);
        return STATUS_NO_MEMORY;
    }
    s->stream = stream;
    s->context = context;
    s->ssl = ssl;
    s->why = "";
    s->filter.ops = &OPS;
    tls_context_get(context);
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    io_filter_put(stream, &s->filter);
    return STATUS_OK;
}

// ---- asking ----

static bool is_ours(const struct io_stream *stream)
{
    return stream->filter != NULL && stream->filter->ops == &OPS;
}

bool tls_on(const struct io_stream *stream)
{
    return is_ours(stream);
}

bool tls_shaking(const struct io_stream *stream)
{
    return is_ours(stream) && is_shaking(session_of(stream));
}

const char *tls_why(const struct io_stream *stream)
{
    return is_ours(stream) ? session_of(stream)->why : "";
}

void tls_say_end(struct io_stream *stream)
{
    struct session *s = is_ours(stream) ? session_of(stream) : NULL;
    if (s == NULL || !s->shaken || s->finished || s->failed || io_filter_dead(stream))
        return;
    s->finished = true;
    ERR_clear_error();
    (void)SSL_shutdown(s->ssl);
    push_cipher(s);
    io_filter_send_now(stream);
}

static void add_subject(const X509 *peer, struct text *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    if (bio != NULL && X509_NAME_print_ex(bio, X509_get_subject_name(peer), 0, XN_FLAG_RFC2253) >= 0) {
        long len = BIO_get_mem_data(bio, &text);
        text_add(out, (struct slice){text, len > 0 ? (size_t)len : 0});
    }
    BIO_free(bio);
}

// The issuer may have let anything into it: what could begin another name, or another line, is escaped.
static void add_name(const char *kind, const ASN1_STRING *name, struct text *out)
{
    const unsigned char *bytes = ASN1_STRING_get0_data(name);
    text_addf(out, out->len > 0 ? ", %s:" : "%s:", kind);
    for (int i = 0; i < ASN1_STRING_length(name); i++) {
        if (bytes[i] > ' ' && bytes[i] < 0x7f && bytes[i] != ',' && bytes[i] != '%')
            text_add_char(out, (char)bytes[i]);
        else
            text_addf(out, "%%%02X", bytes[i]);
    }
}

static void add_names(const X509 *peer, struct text *out)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(peer, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        int kind;
        const ASN1_STRING *name = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);
        if (kind == GEN_DNS)
            add_name("DNS", name, out);
        else if (kind == GEN_URI)
            add_name("URI", name, out);
        else if (kind == GEN_EMAIL)
            add_name("email", name, out);
    }
    GENERAL_NAMES_free(names);
}

static void add_fingerprint(const X509 *peer, struct text *out)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (X509_digest(peer, EVP_sha256(), digest, &len) != 1)
        return;
    for (unsigned i = 0; i < len; i++)
        text_addf(out, "%02x", digest[i]);
}

void tls_peer_write(const struct io_stream *stream, enum tls_peer what, struct text *out)
{
    const X509 *peer = is_ours(stream) ? SSL_get0_peer_certificate(session_of(stream)->ssl) : NULL;
    if (peer == NULL)
        return;
    ERR_clear_error();
    if (what == TLS_PEER_SUBJECT)
        add_subject(peer, out);
    else if (what == TLS_PEER_NAMES)
        add_names(peer, out);
    else
        add_fingerprint(peer, out);
}

enum status tls_offer(struct io_stream *stream, const char *const *protocols)
{
    unsigned char alpn[TLS_ALPN_BYTES];
    size_t len = tls_alpn_write(protocols, alpn, sizeof alpn);
    CHECK(len > 0);
    return SSL_set_alpn_protos(session_of(stream)->ssl, alpn, (unsigned)len) == 0 ? STATUS_OK
                                                                                  : STATUS_NO_MEMORY;
}

bool tls_info_get(const struct io_stream *stream, struct tls_info *info)
{
    if (!is_ours(stream) || !session_of(stream)->shaken)
        return false;
    SSL *ssl = session_of(stream)->ssl;
    *info = (struct tls_info){.version = SSL_version(ssl) < TLS1_3_VERSION ? TLS_1_2 : TLS_1_3,
                              .resumed = SSL_session_reused(ssl) != 0};
    const unsigned char *protocol;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &protocol, &len);
    if (len > 0)
        utf8_copy(info->protocol, sizeof info->protocol, (struct slice){(const char *)protocol, len});
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    utf8_copy(info->name, sizeof info->name, slice_of(name != NULL ? name : ""));
    struct text subject = text_over(info->subject, sizeof info->subject);
    tls_peer_write(stream, TLS_PEER_SUBJECT, &subject);
    return true;
}
