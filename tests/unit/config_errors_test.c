// SPDX-License-Identifier: Apache-2.0
// config: every kind of mistake, where it is told and in which words.
#include "base/check.h"
#include "base/heap.h"
#include "daemon/config/config.h"
#include "test.h"

// A good file around the lines of interest: LISTEN is lines 1, SERVICES 2 to 4, a rollout begins in line 5.
#define LISTEN "listen: [0.0.0.0:80]\n"
#define SERVICES                                                                                             \
    "services:\n"                                                                                            \
    "  shop: {versions: {v1: [h:1], v2: [h:2]}, stable: v1}\n"                                               \
    "  cart: {versions: {v1: [h:3], v2: [h:4]}, stable: v1, routes: [{path: /cart}]}\n"
#define FLAGGED(text) LISTEN "services:\n  s: {versions: {v1: [h:1]}, flags: {" text "}}\n"
#define ERRING(text) LISTEN "services:\n  s: {versions: {v1: [h:1]}, errors: {" text "}}\n"
#define SECURE(text) LISTEN "services:\n  s: {versions: {v1: [h:1]}, tls: " text "}\n"
#define SECURED(endpoint, text) LISTEN "services:\n  s: {tls: " text ", versions: {v1: [" endpoint "]}}\n"
#define COMPRESSING(text) LISTEN "services:\n  s: {versions: {v1: [h:1]}, compression: " text "}\n"
#define ROLLOUT LISTEN SERVICES "rollouts:\n  r:\n    service: shop\n    to: v2\n"
#define ROUTE(text) LISTEN "services: {a: {versions: {v: [h:1]}, routes: [" text "\n"
#define OWN(text) LISTEN SERVICES "routes: [" text "\n"
#define STAGES ROLLOUT "    stages:\n"

struct mistake {
    const char *yaml;
    uint32_t line, column;
    const char *text;
};

static const struct mistake mistakes[] = {
    // YAML itself
    {"", 0, 0, "the file is empty"},
    {"# nothing\n", 0, 0, "the file is empty"},
    {"~\n", 0, 0, "the file is empty"},
    {"- a\n", 1, 1, "a mapping of words was expected"},
    {"word\n", 1, 1, "a mapping of words was expected"},
    {"listen:\n\t- a\n", 2, 1, "a tab stands before"},
    {"a: b: c\n", 1, 5, "a ':' does not fit here"},
    {LISTEN
     "services:\n  s: {versions: {v1: [h:1], v2: {endpoints: [h:2], http2: on}}, stable: v1, mirror: v2}\n",
     3, 85, "copies of requests go in HTTP/1.1, which version 'v2'"},
    {LISTEN
     "services:\n  s: {versions: {v1: {endpoints: [h:1], http2: on}, v2: [h:2]}, stable: v1, mirror: v2}\n",
     3, 85, "copies of requests go in HTTP/1.1, which version 'v1'"},
    {LISTEN "services:\n  s: {versions: {v1: [h:1], v2: {endpoints: [h:2], http2: on}}, stable: v1}\n"
            "rollouts:\n  r: {service: s, to: v2, stages: [{shadow: 10%}, {weight: 100%}]}\n",
     5, 23, "copies of requests go in HTTP/1.1, which version 'v2'"},
    {"listen: [0.0.0.0:80\nservices: {}\n", 2, 9, "this list is not closed"},
    {"a: {b: c\n", 2, 1, "this mapping is not closed"},
    {"services:\n  a: 1\n b: 2\n", 3, 2, "begin in the same column"},
    {"a: \"x\n", 2, 1, "the file ends inside quotes"},
    {"a: %x\n", 1, 4, "put it in quotes"},
    {"a: \xff\n", 1, 4, "byte 0xff is not valid UTF-8"},
    {"a: \xc0\x80\n", 1, 4, "byte 0xc0 is not valid UTF-8"},
    {"a: \xed\xa0\x80\n", 1, 4, "is not valid UTF-8"},
    {"a: \xc3", 1, 4, "is not valid UTF-8"},
    {"\xc3\xa4: \x01\n", 1, 4, "a control character (byte 0x01)"},
    {"a: \"\\0\"\n", 1, 4, "a NUL character"},
    {LISTEN "---\na: b\n", 2, 1, "a second document begins here"},
    {"listen: !!str x\n", 1, 9, "tags (!name) are not used"},
    {"listen: *x\n", 1, 9, "no anchor (&name) of this name"},
    {"listen: &x [*x]\n", 1, 13, "this alias stands inside what it refers to"},
    {"base: &x {a: b}\nadmin: {<<: *x}\n", 2, 9, "merge keys (<<) are not used"},
    {"[a]: b\n", 1, 1, "a word was expected here, not a list"},
    {LISTEN "listen: [0.0.0.0:81]\n", 2, 1, "'listen' is given twice here; it is first given in line 1"},
    {"a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n", 1, 35, "nested too deeply"},
    // who a client is
    {"listen: [{address: 'unix:/run/s', proxy_protocol: [10.0.0.1]}]\n" SERVICES, 1, 51,
     "peers of a unix socket have no address to be known by"},
    {"listen: [{address: 0.0.0.0:80, proxy_protocol: [10.0.0.1/8]}]\n" SERVICES, 1, 49,
     "a network whose address is zero behind the prefix"},
    {"listen: [{address: 0.0.0.0:80, tls: {certificate: a, key: b, client_headers: [X-A]}}]\n" SERVICES, 1,
     78, "'client_headers' needs 'client_ca'"},
    {"listen: [{address: 0.0.0.0:80, tls: {certificate: a, key: b, client_ca: c, client_headers: [Cookie]}}]\n" SERVICES,
     1, 93, "'Cookie' has a meaning of its own"},
    {LISTEN SERVICES "request_id: X-Forwarded-For\n", 5, 13, "'X-Forwarded-For' has a meaning of its own"},
    {LISTEN SERVICES "request_id: {header: X-Sluice-Version}\n", 5, 22,
     "'X-Sluice-Version' has a meaning of its own"},
    {LISTEN SERVICES "request_id: {keep: some}\n", 5, 20, "'keep' wants none, proxies or all, not 'some'"},
    // words and shapes
    {LISTEN SERVICES "rollouts:\n  checkout-v2: {service: shop, to: v2, stagse: []}\n", 6, 40,
     "unknown word 'stagse' in rollout 'checkout-v2'; did you mean 'stages'? known: service, flag, from, to, "
     "stages"},
    {LISTEN SERVICES "banana: 1\n", 5, 1, "unknown word 'banana' in the file; known: workers, io"},
    {ROLLOUT "    checks: {errors: {wors: 2}}\n", 9, 23,
     "unknown word 'wors' in checks.errors of checks of rollout 'r'; did you mean 'worse'?"},
    {"listen: [{adress: 0.0.0.0:80}]\n" SERVICES, 1, 11,
     "unknown word 'adress' in listener; did you mean 'address'?"},
    {LISTEN, 1, 1, "the file lacks the word 'services'"},
    {SERVICES, 1, 1, "the file lacks the word 'listen'"},
    {LISTEN "services: {a: {}}\n", 2, 15, "service 'a' lacks the word 'versions'"},
    {LISTEN "services: {}\n", 2, 11, "'services' is empty; it needs at least 1"},
    {LISTEN "services:\n", 2, 10, "'services' wants names"},
    {LISTEN "services: [a]\n", 2, 11, "'services' wants names"},
    {"listen: 0.0.0.0:80\n" SERVICES, 1, 9, "'listen' wants a list"},
    {"listen: []\n" SERVICES, 1, 9, "'listen' is empty"},
    {LISTEN SERVICES "limits: 5\n", 5, 9, "limits wants words beneath it, not '5'"},
    {LISTEN SERVICES "limits: [5]\n", 5, 9, "limits wants words beneath it, not a list"},
    {LISTEN SERVICES "workers: [1]\n", 5, 10, "'workers' wants one value, not a list"},
    {LISTEN SERVICES "workers: {a: b}\n", 5, 10, "'workers' wants one value, not a mapping"},
    {LISTEN SERVICES "journal:\n", 5, 9, "'journal' has no value"},
    {ROLLOUT "    checks: {errors: maybe}\n", 9, 22,
     "wants words beneath it, or 'off', or 'on', not 'maybe'"},
    // single values
    {LISTEN SERVICES "workers: many\n", 5, 10, "'workers' wants a whole number, or 'auto', not 'many'"},
    {LISTEN SERVICES "workers: 0\n", 5, 10, "'workers' is outside its range: '0', but 1 to 64 is possible"},
    {LISTEN SERVICES "workers: 99999999999999999999999\n", 5, 10, "is outside its range"},
    {LISTEN SERVICES "io: fast\n", 5, 5, "'io' wants auto, epoll or uring, not 'fast'"},
    {LISTEN SERVICES "io: urign\n", 5, 5, "did you mean 'uring'?"},
    {LISTEN SERVICES "timeouts: {connect: 5}\n", 5, 21,
     "'connect' wants a duration with its unit, such as 500ms, 30s, 10m or 1h30m, not '5'"},
    {LISTEN SERVICES "timeouts: {connect: 1h}\n", 5, 21, "'1h', but 1ms to 10m is possible"},
    {LISTEN SERVICES "timeouts: {connect: 99999999999999999d}\n", 5, 21, "outside its range"},
    {LISTEN SERVICES "timeouts: {connect: 0}\n", 5, 21, "outside its range"},
    {LISTEN SERVICES "timeouts: {connect: 18446744073709551617s}\n", 5, 21, "outside its range"},
    {LISTEN SERVICES "timeouts: {connect: 213503982335d}\n", 5, 21, "outside its range"},
    {LISTEN SERVICES "limits: {request_body: 64MB}\n", 5, 24, "'request_body' wants a size with its unit"},
    {LISTEN SERVICES "limits: {request_body: 99999999TiB}\n", 5, 24, "outside its range"},
    {LISTEN SERVICES "trust: {networks: [10.0.0.1/8]}\n", 5, 20, "zero behind the prefix"},
    {LISTEN SERVICES "trust: {networks: [10.0.0.0/33]}\n", 5, 20, "'networks' wants a network"},
    {LISTEN SERVICES "trust: {networks: [me]}\n", 5, 20, "'networks' wants a network"},
    {ROLLOUT "    alpha: 1%\n", 9, 12, "'alpha' wants a number, such as 1.25, not '1%'"},
    {ROLLOUT "    alpha: 0x1p-4\n", 9, 12, "'alpha' wants a number"},
    {ROLLOUT "    alpha: nan\n", 9, 12, "'alpha' wants a number"},
    {ROLLOUT "    alpha: 0\n", 9, 12, "'alpha' is outside its range: '0', but 1e-06 to 0.2 is possible"},
    {ROLLOUT "    deadline: 61s\n", 9, 15, "'61s', but 100ms to 1m is possible"},
    {ROLLOUT "    undecided: wait\n", 9, 16, "'undecided' wants hold, rollback or proceed, not 'wait'"},
    {ROLLOUT "    checks: {errors: {negligible: 0.001}}\n", 9, 35, "'negligible' wants a share with its %"},
    {ROLLOUT "    checks: {latency: {margin: 1.0}}\n", 9, 32, "but 1.01 to 100 is possible"},
    // names, addresses, routes
    {LISTEN "services: {'a b': {versions: {v: [h:1]}}}\n", 2, 12, "'a b' is not a name"},
    {LISTEN "services: {a: {versions: {'': [h:1]}}}\n", 2, 27, "'' is not a name"},
    {LISTEN
     "services: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: {versions: {v: [h:1]}}}\n",
     2, 12, "is not a name; a name has 1 to 63 letters"},
    {"listen: [localhost:80]\n" SERVICES, 1, 10, "'localhost:80' is not an address"},
    {"listen: ['80']\n" SERVICES, 1, 10, "the port is missing"},
    {"listen: [0.0.0.0:80, '0.0.0.0:80']\n" SERVICES, 1, 22, "'0.0.0.0:80' is listened to twice"},
    {"listen: [127.0.0.1:9440]\n" SERVICES, 1, 10, "'127.0.0.1:9440' is listened to twice"},
    {LISTEN "services: {a: {versions: {v: ['http://h:1']}}}\n", 2, 31, "leave the scheme (http://) away"},
    {LISTEN "services: {a: {versions: {v: [10.0.0.256:80]}}}\n", 2, 31, "'10.0.0.256:80' is not an address"},
    {LISTEN "services: {a: {versions: {v: ['h:0']}}}\n", 2, 31, "'h:0' is not an address"},
    {LISTEN "services: {a: {versions: {v: ['10.0.0.1:0']}}}\n", 2, 31, "has port 0"},
    {LISTEN "services: {a: {versions: {v: ['h:65536']}}}\n", 2, 31, "is not an address"},
    {LISTEN "services: {a: {versions: {v: ['-shop.example:80']}}}\n", 2, 31,
     "'-shop.example:80' cannot be looked up: a label begins or ends with '-'"},
    {LISTEN "services: {a: {versions: {v: ['_http._tcp.shop:80']}}}\n", 2, 31,
     "cannot be looked up: a label begins with '_', as only SRV names do"},
    {LISTEN "services: {a: {versions: {v: ['srv:shop.example']}}}\n", 2, 31,
     "cannot be looked up: an SRV name is _service._protocol.name"},
    {LISTEN "names: {servers: [10.0.0.2:53, 'unix:/x']}\n" SERVICES, 2, 32,
     "'unix:/x' is not the address of a name server"},
    {LISTEN "names: {servers: [10.0.0.2:0]}\n" SERVICES, 2, 19, "is not the address of a name server"},
    {LISTEN "services: {a: {versions: {v: []}}}\n", 2, 30, "'endpoints' is empty; it needs at least 1"},
    {LISTEN "services: {a: {versions: {v: }}}\n", 2, 30,
     "version 'v' of service 'a' lacks the word 'endpoints'"},
    {LISTEN "services: {a: {versions: {v: ['h:1', 'h:1']}}}\n", 2, 38, "'h:1' stands in this list twice"},
    {"listen: [10.0.0.1:80]\nservices: {a: {versions: {v: ['10.0.0.1:80']}}}\n", 2, 31, "in circles"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, routes: [{path: cart}]}}\n", 2, 54, "begins with '/'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, routes: [{host: 'x:80'}]}}\n", 2, 54,
     "without scheme and port"},
    {LISTEN "services:\n  a: {versions: {v: [h:1]}}\n  b: {versions: {v: [h:1]}}\n", 4, 6,
     "host '*' and path '/' belong to service 'a' already"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, routes: [{host: X}, {host: x}]}}\n", 2, 58,
     "belong to service 'a' already"},
    // written routes
    {ROUTE("{path: {template: '/a/{id'}}]}}"), 2, 69, "a whole segment"},
    {ROUTE("{path: {template: /a/b}, rewrite: {path: '/x/{id}'}}]}}"), 2, 92, "names what is not known"},
    {ROUTE("{path: {exact: /a, prefix: /b}}]}}"), 2, 55, "a path is one thing"},
    {ROUTE("{path: {exact: a}}]}}"), 2, 62, "begins with '/'"},
    {ROUTE("{methods: ['G T']}]}}"), 2, 58, "'methods' wants"},
    {ROUTE("{headers: {x-a: }}]}}"), 2, 63, "wants a value, {prefix: ...}, 'present' or 'absent'"},
    {ROUTE("{headers: {x-a: {is: a, prefix: b}}}]}}"), 2, 71, "a condition is one thing"},
    {ROUTE("{headers: {x-a: ' a'}}]}}"), 2, 63, "'x-a' can never be so"},
    {ROUTE("{request_headers: {set: {Host: a}}}]}}"), 2, 72, "'Host' is HTTP's or the proxy's own"},
    {ROUTE("{request_headers: {add: {Transfer_Encoding: a}}}]}}"), 2, 72, "the proxy's own"},
    {ROUTE("{response_headers: {remove: [connection]}}]}}"), 2, 76, "'connection' is HTTP's"},
    {ROUTE("{request_headers: {set: {X-A: 'a {b}'}}}]}}"), 2, 80, "names what is not known"},
    {ROUTE("{request_headers: {set: {X-A: a}, add: {X-B: {value: 'a}'}}}}]}}"), 2, 102,
     "a brace stands alone"},
    {ROUTE("{request_headers: {set: {X-A: \"a\\r\\nb\"}}}]}}"), 2, 77, "a text of one line"},
    {ROUTE("{request_headers: {set: {X-A: \"a\\0b\"}}}]}}"), 2, 77, "a NUL character has no place here"},
    {ROUTE("{request_headers: {set: {X-A: \"a\\x7fb\"}}}]}}"), 2, 77, "control characters"},
    {ROUTE("{rewrite: {host: '*.a'}}]}}"), 2, 64, "a single one"},
    {ROUTE("{timeouts: {connect: 1s}}]}}"), 2, 59, "unknown word 'connect'"},
    {ROUTE("{redirect: https}]}}"), 2, 48, "unknown word 'redirect'"},
    {ROUTE("{headers: {a: x, b: y}}, {headers: {b: y, a: x}}]}}"), 2, 72, "belong to service 'a' already"},
    {OWN("{path: /a}]"), 5, 10, "either a 'redirect' or an 'answer'"},
    {OWN("{redirect: https, answer: 200}]"), 5, 10, "either a 'redirect' or an 'answer'"},
    {OWN("{redirect: {status: 301}}]"), 5, 21, "to where the request went already"},
    {OWN("{redirect: {status: 300, path: /}}]"), 5, 30, "'status' wants 301, 302, 303, 307 or 308"},
    {OWN("{redirect: {path: 'https://evil'}}]"), 5, 28, "begins with '/'"},
    {OWN("{redirect: {path: '/{x}'}}]"), 5, 30, "names what is not known"},
    {OWN("{scheme: https, redirect: https}]"), 5, 36, "in circles"},
    {OWN("{answer: 99}]"), 5, 19, "but 200 to 599 is possible"},
    {OWN("{answer: {status: 204, body: a}}]"), 5, 39, "has no body"},
    {OWN("{answer: {status: 200, headers: {Content-Length: 1}}}]"), 5, 43, "the proxy's own"},
    {OWN("{path: /x, answer: 200}, {path: /x, answer: 404}]"), 5, 35,
     "belong to a route without a service already"},
    {"listen: [{address: 0.0.0.0:80, redirect: https, tls: {certificate: a, key: b}}]\n" SERVICES, 1, 42,
     "is https already"},
    {LISTEN SERVICES "admin: {address: 0.0.0.0:9440}\n", 5, 18, "tokens come in a later version"},
    {LISTEN SERVICES "admin: '[::]:9440'\n", 5, 8, "tokens come in a later version"},
    {LISTEN SERVICES "admin: 10.0.0.1:9440\n", 5, 8, "can be reached from other machines"},
    // services
    {LISTEN "services: {a: {versions: {v: [h:1], w: [h:2]}}}\n", 2, 15,
     "has 2 versions and lacks the word 'stable'"},
    {LISTEN "services: {a: {versions: {v: [h:1], w: [h:2]}, stabel: v}}\n", 2, 48,
     "unknown word 'stabel' in service 'a'; did you mean 'stable'?"},
    {LISTEN "services: {a: {versions: {blue: [h:1], green: [h:2]}, stable: gren}}\n", 2, 63,
     "service 'a' has no version 'gren'; did you mean 'green'? known: blue, green"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, unit: {cookie: a, header: b}}}\n", 2, 56,
     "a unit is one thing"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, unit: {}}}\n", 2, 44, "a unit is {cookie: name}"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, unit: ip}}\n", 2, 44,
     "or 'request', or 'address', not 'ip'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, unit: {cookie: 'a b'}}}\n", 2, 53,
     "the name of a cookie or header"},
    // stages
    {STAGES "      - {weight: 101%}\n", 10, 18, "'101%', but 0.001% to 100% is possible"},
    {STAGES "      - {weight: 0%}\n", 10, 18, "'weight' is outside its range: '0%'"},
    {STAGES "      - {weight: 0.0001%}\n", 10, 18, "'weight' is outside its range"},
    {STAGES "      - {weight: 0.05}\n", 10, 18, "a share with its %"},
    {STAGES "      - {weight: 5%}\n      - {weight: 5%}\n", 11, 18,
     "weights must grow from stage to stage; the one before has 5%"},
    {STAGES "      - {weight: 5%}\n      - approve: {}\n      - {weight: 1%}\n", 12, 18, "weights must grow"},
    {STAGES "      - {weight: 5%, for: 2h, horizon: 1h}\n", 10, 40, "'horizon' is shorter than 'for'"},
    {STAGES "      - {weight: 5%, soak: 1h}\n", 10, 22, "'soak' belongs to the stage with weight 100%"},
    {STAGES "      - {for: 5m}\n", 10, 9, "this stage says neither 'weight' nor 'approve'"},
    {STAGES "      - {weight: 5%, approve: sre}\n", 10, 10, "do not belong to one stage"},
    {STAGES "      - approve: sre\n", 10, 7, "no stage has a 'weight'"},
    {STAGES "      - {weight: 100%}\n      - approve: sre\n", 11, 9,
     "no stage can come after the one with weight 100%"},
    {ROLLOUT "    stages: []\n", 9, 13, "'stages' is empty"},
    // rollouts
    {LISTEN SERVICES "rollouts: {r: {service: shpo, to: v2}}\n", 5, 25,
     "there is no service 'shpo'; did you mean 'shop'? known: shop, cart"},
    {LISTEN SERVICES "rollouts: {r: [shop]}\n", 5, 15, "rollout 'r' wants words beneath it, not a list"},
    {LISTEN SERVICES "rollouts: {r: {service: shop, to: v9}}\n", 5, 35, "service 'shop' has no version 'v9'"},
    {LISTEN SERVICES "rollouts: {r: {service: shop, to: v1}}\n", 5, 35,
     "is the stable one of service 'shop' already"},
    {LISTEN SERVICES "rollouts: {r: {service: shop}}\n", 5, 15, "rollout 'r' lacks the word 'to'"},
    {LISTEN SERVICES "rollouts: {r: {service: shop, to: v2}, q: {service: shop, to: v2}}\n", 5, 53,
     "service 'shop' is in rollout 'r' already"},
    {ROLLOUT "    checks: {errors: off, latency: off}\n", 9, 13, "every check is off"},
    {ROLLOUT "    checks: {errors: {share: 60%}, latency: {share: 60%}}\n", 9, 13,
     "make 120%; they must make 100%"},
    {ROLLOUT "    checks: {errors: {share: 20%}, latency: {share: 60%}}\n", 9, 13,
     "make 80%; they must make 100%"},
    {ROLLOUT "    checks: {errors: {share: 100%}}\n", 9, 13, "with something left"},
    {ROLLOUT "    checks: {errors: {worse: 2, margin: 1.5}}\n", 9, 41, "'margin' must be above 'worse' (2)"},
    // the shadow
    {STAGES "      - {weight: 1%}\n      - shadow: 10%\n", 11, 17, "comes before the first 'weight'"},
    {STAGES "      - shadow: 10%\n      - shadow: 5%\n      - {weight: 1%}\n", 11, 17,
     "a rollout has one stage 'shadow'"},
    {STAGES "      - shadow: 10%\n        weight: 5%\n", 11, 9,
     "'weight' and 'shadow' do not belong to one stage"},
    {STAGES "      - shadow: {for: 10m, horizon: 5m}\n      - {weight: 1%}\n", 10, 37,
     "'horizon' is shorter than 'for'"},
    {STAGES "      - shadow: {compared: 10}\n      - {weight: 1%}\n", 10, 28, "100"},
    {ROLLOUT "    diff: {alpha: 0.05}\n", 9, 5, "no stage is one"},
    {STAGES "      - shadow: 10%\n      - {weight: 1%}\n    diff: {ignore: [{path: body.id}]}\n", 12, 21,
     "lacks the word 'reason'"},
    // later versions
    {STAGES "      - segment: {name: internal}\n      - {weight: 1%}\n", 10, 18,
     "'segment' stages belong to rollouts of flags"},
    {ROLLOUT "    triggers: {memory: off}\n", 9, 5, "triggers are not in this version yet"},
    {ROLLOUT "    holdback: 5%\n", 9, 5, "a holdback is not in this version yet"},
    // flags
    {LISTEN SERVICES "flags: {listen: \"0.0.0.0:8016\"}\n", 5, 17, "name a file of 'tokens'"},
    {LISTEN SERVICES "flags: {sources: [{file: a.json, url: \"http://a/\"}]}\n", 5, 19,
     "one of 'file', 'dire"},
    {LISTEN SERVICES "flags: {sources: [{file: a.json, every: 1s}]}\n", 5, 34, "'every' belongs to a 'url'"},
    {LISTEN SERVICES "flags: {sources: [{url: \"ftp://a/\"}]}\n", 5, 25, "begins with http:// or https://"},
    {FLAGGED("headers: {Cookie: [a]}"), 3, 48, "has a meaning of its own"},
    {FLAGGED("headers: {X-Flags: [a, b, a]}"), 3, 48, "stands in this header twice"},
    {FLAGGED("headers: {X-Flags: [a], x_flags: [b]}"), 3, 62, "are one header"},
    {FLAGGED("context: {targetingKey: path}"), 3, 48, "what the word 'key' says"},
    {FLAGGED("context: {a: {cookie: b, header: c}}"), 3, 52, "either a 'cookie' or a 'header'"},
    {LISTEN SERVICES "flags: {burst: 5}\n", 5, 9, "'burst' means nothing without 'rate'"},
    {LISTEN SERVICES "flags: {define: [a]}\n", 5, 17, "'define' wants names"},
    {LISTEN SERVICES "segments: internal\n", 5, 11, "'segments' wants names"},
    {LISTEN SERVICES "rollouts: {a: {flag: f, from: x, to: y}}\n", 5, 22, "this file has no 'flags'"},
    {LISTEN SERVICES "rollouts: {a: {flag: f, to: y}}\nflags: {}\n", 5, 15, "lacks the word 'from'"},
    {LISTEN SERVICES "rollouts: {a: {flag: f, from: y, to: y}}\nflags: {}\n", 5, 38, "are the same variant"},
    {LISTEN SERVICES
     "rollouts: {a: {flag: f, from: x, to: y, stages: [{segment: s}, {weight: 5%}]}}\nflags: {}\n",
     5, 60, "there is no segment 's'"},
    {LISTEN SERVICES "rollouts: {a: {flag: f, service: shop, from: x, to: y}}\nflags: {}\n", 5, 34,
     "has no key to split users by"},
    {LISTEN SERVICES "rollouts: {a: {flag: f, from: x, to: y}, b: {flag: f, from: x, to: y}}\nflags: {}\n", 5,
     52, "in rollout 'a' already"},
    // what an error is: column 38 is the first word of `errors`
    {LISTEN "services:\n  s: {versions: {v1: [h:1]}, errors: 5xx}\n", 3, 38,
     "errors of a service of service 's' wants words beneath it, not '5xx'"},
    {COMPRESSING("yes"), 3, 43, "compression"},
    {COMPRESSING("{codecs: [gzip, br, gzip]}"), 3, 63, "'gzip' stands in this list twice"},
    {COMPRESSING("{codecs: [deflate]}"), 3, 53, "zstd, br or gzip, not 'deflate'"},
    {COMPRESSING("{types: [text/html, '*/*']}"), 3, 63, "'*/*' is no type"},
    {COMPRESSING("{types: [html]}"), 3, 52, "'html' is no type"},
    {ERRING("statuses: 5xx"), 3, 49, "'statuses' wants a list"},
    {ERRING("statuses: [99]"), 3, 50,
     "'statuses' wants statuses from 200 to 599, such as 5xx, 429 or 404-410"},
    {ERRING("statuses: [6xx]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [1xx]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [5x]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [xxx]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [199]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [600]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [599-500]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [500-600]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [500-5xx]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [500:599]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: ['']"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [NaN]"), 3, 50, "wants statuses from 200"},
    {ERRING("statuses: [4O4]"), 3, 50, "wants statuses from 200"},
    {ERRING("headers: {a b: c}"), 3, 49, "'a b' is not a name"},
    {ERRING("headers: {a: }"), 3, 52, "header 'a' wants a value, or 'present'"},
    {ERRING("headers: {a: {}}"), 3, 52, "header 'a' wants a value, or 'present'"},
    {ERRING("headers: {a: ''}"), 3, 52, "'is' wants a text of one line"},
    {ERRING("body: {within: 1KiB}"), 3, 45, "lacks the word 'contains'"},
    {ERRING("body: ''"), 3, 45, "'contains' wants a text of one line"},
    {ERRING("body: {contains: ''}"), 3, 56, "'contains' wants a text of one line"},
    {ERRING("body: {contains: x, within: 0B}"), 3, 67, "'within' is outside its range"},
    {ERRING("body: {contains: x, within: 2MiB}"), 3, 67, "but 1B to 1048576B is possible"},
    {ERRING("body: {contains: x, within: NaN}"), 3, 67, "'within' wants a size"},
    {ERRING("body: {contains: xyz, within: 2B}"), 3, 69, "less than the text has bytes (3)"},
    {ERRING("grpc: [internl]"), 3, 46, "did you mean 'internal'?"},
    {ERRING("grpc: [ok]"), 3, 46, "'grpc' wants cancelled"},
    {SECURE("maybe"), 3, 35, "wants words beneath it, or 'true', or 'false', not 'maybe'"},
    {SECURE("{certificate: a.pem}"), 3, 35, "'certificate' and 'key' belong together"},
    {SECURE("{key: a.key}"), 3, 35, "'certificate' and 'key' belong together"},
    {SECURE("{verify: false, ca: a.pem}"), 3, 55, "take one of them away"},
    {SECURE("{verify: no}"), 3, 44, "'verify' wants true or false"},
    {SECURE("{server_name: '*.a'}"), 3, 49, "one name, without '*'"},
    {SECURE("{min_version: 1.1}"), 3, 49, "'min_version' wants 1.2 or 1.3"},
    {SECURED("'unix:/a'", "true"), 3, 34, "needs 'server_name': a socket of this machine has no name"},
    {SECURED("'srv:_a._tcp.b'", "true"), 3, 34, "needs 'server_name': what an SRV record tells has no name"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, health: {every: 1s}}}\n", 2, 46,
     "a health check is one thing"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, health: {http: /, tcp: true}}}\n", 2, 46,
     "either 'http' with a path, or 'tcp: true'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, health: {http: healthz, tcp: true}}}\n", 2, 53,
     "begins with '/'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, health: {http: healthz}}}\n", 2, 53, "begins with '/'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, outlier: {ejection: 10m}}}\n", 2, 47,
     "'longest' is less than 'ejection'"},
    {LISTEN "services: {a: {versions: {v: [h:1]}, breaker: {probes: 0}}}\n", 2, 56, "outside its range"},
    {LISTEN SERVICES "admin: {tokens: file}\n", 5, 9, "tokens are not in this version yet"},
};

static struct config_errors errors;

static void try_mistake(const struct mistake *mistake)
{
    struct config *config = NULL;
    enum status status = config_load_text("t.yaml", slice_of(mistake->yaml), &config, &errors);
    const struct config_error *error = &errors.items[0];
    bool right = status == STATUS_INVALID && config == NULL && errors.count == 1 &&
                 error->position.line == mistake->line && error->position.column == mistake->column &&
                 strstr(error->message, mistake->text) != NULL && strcmp(error->position.file, "t.yaml") == 0;
    if (right)
        return;
    for (uint32_t i = 0; i < errors.count; i++)
        print_error("  told: %u:%u: %s\n", errors.items[i].position.line, errors.items[i].position.column,
                    errors.items[i].message);
    fail_msg("wanted %u:%u: ...%s... of\n%s", mistake->line, mistake->column, mistake->text, mistake->yaml);
}

TEST(mistakes)
{
    for (size_t i = 0; i < ARRAY_LEN(mistakes); i++)
        try_mistake(&mistakes[i]);
}

TEST(good_frame)
{
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", slice_of(ROLLOUT), &config, &errors), STATUS_OK);
    config_destroy(config);
}

// All of what is wrong at once, in the order of the file, and the rest counted.
TEST(many)
{
    char yaml[4096];
    struct text text = text_over(yaml, sizeof yaml);
    for (int i = 0; i < 30; i++)
        text_addf(&text, "word%d: 1\n", i);
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", text_slice(&text), &config, &errors), STATUS_INVALID);
    assert_int_equal(errors.count, CONFIG_ERRORS_MAX);
    assert_int_equal(errors.dropped, 12);
    for (uint32_t i = 1; i < errors.count; i++)
        assert_true(errors.items[i - 1].position.line <= errors.items[i].position.line);
    static char report[CONFIG_REPORT_BYTES_MAX];
    struct text told = text_over(report, sizeof report);
    config_errors_write(&errors, &told);
    assert_false(told.cut);
    assert_non_null(strstr(report, "and 12 more\n"));
}

TEST(report)
{
    struct config *config = NULL;
    char report[2000];
    struct text text = text_over(report, sizeof report);
    static const char yaml[] = LISTEN SERVICES "rollouts:\n"
                                               "  checkout-v2:\n"
                                               "    service: shop # \xc3\xa4\xc3\xb6\n"
                                               "    to: v2\n"
                                               "    \"\xc3\xa4\": 1\n"
                                               "    stagse:\n"
                                               "      - {weight: 1%}\n";
    assert_int_equal(config_load_text("sluice.yaml", slice_of(yaml), &config, &errors), STATUS_INVALID);
    config_errors_write(&errors, &text);
    assert_non_null(strstr(
        report, "sluice.yaml:10:5: unknown word 'stagse' in rollout 'checkout-v2'; did you mean 'stages'?"));
    assert_non_null(strstr(report, "\n     10 |     stagse:\n        |     ^\n"));
    assert_non_null(strstr(report, "\n      9 |     \"\xc3\xa4\": 1\n        |     ^\n"));
}

TEST(long_lines_are_cut)
{
    char yaml[2048];
    struct text text = text_over(yaml, sizeof yaml);
    text_add(&text, SLICE("listen: ['0.0.0.0:1'"));
    for (int i = 0; i < 100; i++)
        text_add(&text, SLICE(", \xc3\xa4"));
    text_add(&text, SLICE("]\n"));
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", text_slice(&text), &config, &errors), STATUS_INVALID);
    for (uint32_t i = 0; i < errors.count; i++)
        assert_true(strlen(errors.items[i].excerpt) < CONFIG_EXCERPT_BYTES && errors.items[i].caret < 72);
}

// Nine aliases of nine aliases of ...: a few hundred bytes that stand for a billion values.
TEST(alias_bomb)
{
    char yaml[4096];
    struct text text = text_over(yaml, sizeof yaml);
    text_add(&text, SLICE("a0: &a0 [x, x, x, x, x, x, x, x, x]\n"));
    for (int i = 1; i < 9; i++) {
        text_addf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 9; j++)
            text_addf(&text, "%s*a%d", j > 0 ? ", " : "", i - 1);
        text_add(&text, SLICE("]\n"));
    }
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", text_slice(&text), &config, &errors), STATUS_INVALID);
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(errors.items[0].message, "the aliases up to here stand for too many values"));
}

static void fill_and_try(size_t bytes, const char *head, const char *repeated, const char *wanted)
{
    char *yaml = heap_alloc(1, bytes);
    assert_non_null(yaml);
    struct text text = text_over(yaml, bytes);
    text_add(&text, slice_of(head));
    while (text.len + strlen(repeated) + 1 < bytes)
        text_add(&text, slice_of(repeated));
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", text_slice(&text), &config, &errors), STATUS_INVALID);
    assert_non_null(strstr(errors.items[0].message, wanted));
    heap_free(yaml);
}

TEST(names_are_told_beside_other_errors)
{
    static const char yaml[] = LISTEN SERVICES "workers: none\nrollouts:\n  r: {service: shpo, to: v2}\n"
                                               "  q: {service: cart, to: v9}\n  p: {to: v2}\n";
    struct config *config = NULL;
    assert_int_equal(config_load_text("t", slice_of(yaml), &config, &errors), STATUS_INVALID);
    assert_int_equal(errors.count, 4);
    assert_int_equal(errors.items[1].position.line, 7);
    assert_non_null(strstr(errors.items[1].message, "did you mean 'shop'?"));
    assert_non_null(strstr(errors.items[2].message, "service 'cart' has no version 'v9'"));
    assert_non_null(strstr(errors.items[3].message, "rollout 'p' lacks the word 'service'"));
}

TEST(totals)
{
    enum { BYTES = 400000, SERVICES_TRIED = 140, ROUTES_TRIED = 30 };
    char *yaml = heap_alloc(1, BYTES);
    assert_non_null(yaml);
    struct text text = text_over(yaml, BYTES);
    text_add(&text, SLICE(LISTEN "services:\n"));
    for (int i = 0; i < SERVICES_TRIED; i++) {
        text_addf(&text, "  s%d: {versions: {v: [h:1]}, routes: [", i);
        for (int j = 0; j < ROUTES_TRIED; j++)
            text_addf(&text, "{path: /%d/%d},", i, j);
        text_add(&text, SLICE("]}\n"));
    }
    struct config *config = NULL;
    assert_false(text.cut);
    assert_int_equal(config_load_text("t", text_slice(&text), &config, &errors), STATUS_INVALID);
    assert_non_null(strstr(errors.items[0].message, "all services together have 4200 routes; at most 4096"));
    heap_free(yaml);
}

TEST(bounds)
{
    fill_and_try(20000, "a:\n", "- x\n", "more than 1024 entries");
    fill_and_try(400000, "",
                 "- [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                 "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n",
                 "the configuration holds too many values");
    fill_and_try(CONFIG_FILE_BYTES_MAX + 100, "", "# a comment of some length, over and over again\n",
                 "larger than 4 MiB");
    fill_and_try(3000, "services: {a: {versions: {v: [h:1]}}}\nlisten:\n", "- 0.0.0.0:80\n", "'listen' has");
}
