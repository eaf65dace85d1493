// SPDX-License-Identifier: Apache-2.0
// Unleash: both forms of its exports, every operator of constraints and every strategy by tables of contexts
// and answers, variants, dependencies, environments; what has no equivalent never turns a feature on.
#include "base/check.h"
#include "convert_world.h"
#include "test.h"

#define FEATURE(name, strategies) "{'name': '" name "', 'enabled': true, 'strategies': [" strategies "]}"
#define CONSTRAINED(name, constraints) FEATURE(name, "{'name': 'default', 'constraints': [" constraints "]}")
#define VALUES(field, op, values) "{'contextName': '" field "', 'operator': '" op "', 'values': [" values "]}"
#define VALUE(field, op, value) "{'contextName': '" field "', 'operator': '" op "', 'value': '" value "'}"
#define INVERTED(field, op, values)                                                                          \
    "{'contextName': '" field "', 'operator': '" op "', 'inverted': true, 'values': [" values "]}"

// Long because it is a table.
TEST(constraints)
{
    static const char
        SOURCE[] =
            "{'version': 1, 'features': [" CONSTRAINED("in", VALUES("city", "IN", "'a', ' b ', ''")) "," CONSTRAINED(
                "in-user",
                VALUES("userId", "IN",
                       "'u1'")) "," CONSTRAINED("not-in",
                                                VALUES(
                                                    "city", "NOT_IN",
                                                    "'a'")) "," CONSTRAINED("in-inverted",
                                                                            INVERTED(
                                                                                "city", "IN",
                                                                                "'a'")) "," CONSTRAINED("not-"
                                                                                                        "in-"
                                                                                                        "inve"
                                                                                                        "rte"
                                                                                                        "d",
                                                                                                        INVERTED(
                                                                                                            "city", "NOT_IN", "'a'")) "," CONSTRAINED("in-none",
                                                                                                                                                      VALUES("city", "IN", "")) "," CONSTRAINED("contains", VALUES("city", "STR_CONTAINS", "'bc', 'x'")) "," CONSTRAINED("contains-inverted", INVERTED("city", "STR_CONTAINS", "'bc'")) "," CONSTRAINED("starts",
                                                                                                                                                                                                                                                                                                                                                        VALUES("city",
                                                                                                                                                                                                                                                                                                                                                               "STR_STARTS_WITH",
                                                                                                                                                                                                                                                                                                                                                               "'ab'")) "," CONSTRAINED("ends", VALUES("email",
                                                                                                                                                                                                                                                                                                                                                                                                       "STR_ENDS_WITH",
                                                                                                                                                                                                                                                                                                                                                                                                       "'.org'")) "," CONSTRAINED("digits-any-case", "{'contextName': 'city', 'operator': 'STR_CONTAINS', 'values': ['12'], "
                                                                                                                                                                                                                                                                                                                                                                                                                                                     "'caseInsensitive': true}") "," CONSTRAINED("eq", VALUE("n",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             "NUM_EQ", "12.0")) "," CONSTRAINED("gt", VALUE("n",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "NUM_GT", "12")) "," CONSTRAINED("gte",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             VALUE("n", "NUM_GTE", "12")) "," CONSTRAINED("lt", VALUE("n", "NUM_LT",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      "12")) "," CONSTRAINED("lte", VALUE("n", "NUM_LTE", "12")) "," CONSTRAINED("nan",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 VALUE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "n", "NUM_EQ",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "x")) "," CONSTRAINED("after",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           VALUE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "currentTime",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "DATE_AFTER", "2023-11-14T22:13:20.000Z")) "," CONSTRAINED("before",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                          VALUE("currentTime", "DATE_BEFORE",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "2023-11-15T00:13:20+02:00")) "," CONSTRAINED("version",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              VALUE("v",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    "SEMVER_EQ",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    "1.2.3")) "," CONSTRAINED("version-gt",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              VALUE("v", "SEMVER_GT", "1.2.3-beta.1")) "," CONSTRAINED("version-lt",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       VALUE("v", "SEMVER_LT", "1.2.3")) "," CONSTRAINED("version-bad", VALUE("v", "SEMVER_EQ", "1.2")) "," CONSTRAINED("two",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        VALUE("n", "NUM_GT", "12") "," VALUE(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "n",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "NUM_LT", "16")) "," FEATURE("either",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         "{'name': 'default', 'constraints': [" VALUES("city", "IN", "'a'") "]}, {'name': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            "'userWithId', 'parameters': {'userIds': 'u1, u2'}}") "]}";
    static const struct expectation ROWS[] = {
        {"in", "{'city':'a'}", "true"},
        {"in", "{'city':'b'}", "true"},
        {"in", "{'city':'c'}", "false"},
        {"in", "{}", "false"},
        {"in", "{'city':''}", "false"},
        {"in-user", "{'targetingKey':'u1'}", "true"},
        {"in-user", "{'targetingKey':'u2'}", "false"},
        {"in-user", "{}", "false"},
        {"not-in", "{'city':'a'}", "false"},
        {"not-in", "{'city':'b'}", "true"},
        {"not-in", "{}", "true"},
        {"in-inverted", "{'city':'a'}", "false"},
        {"in-inverted", "{}", "true"},
        {"not-in-inverted", "{'city':'a'}", "true"},
        {"not-in-inverted", "{}", "false"},
        {"in-none", "{'city':''}", "false"},
        {"contains", "{'city':'abcd'}", "true"},
        {"contains", "{'city':'ab'}", "false"},
        {"contains", "{}", "false"},
        {"contains-inverted", "{'city':'abcd'}", "false"},
        {"contains-inverted", "{}", "true"},
        {"starts", "{'city':'abc'}", "true"},
        {"starts", "{'city':'cab'}", "false"},
        {"starts", "{}", "false"},
        {"ends", "{'email':'x.org'}", "true"},
        {"ends", "{'email':'x.com'}", "false"},
        {"digits-any-case", "{'city':'x12'}", "true"},
        {"digits-any-case", "{'city':312}", "true"},
        {"eq", "{'n':'12'}", "true"},
        {"eq", "{'n':12}", "true"},
        {"eq", "{'n':'12.1'}", "false"},
        {"eq", "{}", "false"},
        {"gt", "{'n':'12.5'}", "true"},
        {"gt", "{'n':12}", "false"},
        {"gt", "{'n':'abc'}", "false"},
        {"gte", "{'n':12}", "true"},
        {"lt", "{'n':'11'}", "true"},
        {"lt", "{'n':'12'}", "false"},
        {"lt", "{}", "false"},
        {"lte", "{'n':'12'}", "true"},
        {"nan", "{'n':'x'}", "false"},
        {"after", "{}", "false"},
        {"before", "{}", "false"},
        {"version", "{'v':'1.2.3'}", "true"},
        {"version", "{'v':'v1.2.3'}", "false"},
        {"version", "{'v':'1.2.4'}", "false"},
        {"version", "{}", "false"},
        {"version-gt", "{'v':'1.2.3'}", "true"},
        {"version-gt", "{'v':'1.2.3-alpha'}", "false"},
        {"version-lt", "{'v':'1.2.2'}", "true"},
        {"version-lt", "{'v':'1.2.3'}", "false"},
        {"version-bad", "{'v':'1.2'}", "false"},
        {"two", "{'n':13}", "true"},
        {"two", "{'n':16}", "false"},
        {"either", "{'city':'a'}", "true"},
        {"either", "{'targetingKey':'u2'}", "true"},
        {"either", "{'targetingKey':'u3','city':'b'}", "false"},
    };
    static const struct expectation LATER[] = {{"after", "{}", "true"}, {"before", "{}", "false"}};
    static const struct expectation EARLIER[] = {{"after", "{}", "false"}, {"before", "{}", "true"}};
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    world_expect_at(&world, LATER, ARRAY_LEN(LATER), 1700000001);
    world_expect_at(&world, EARLIER, ARRAY_LEN(EARLIER), 1699999999);
    assert_int_equal(world_lost(&world), 0);
    world_free(&world);
}

// Long because it is a table.
TEST(strategies)
{
    static const char
        SOURCE[] =
            "{'version': 2, 'features': [" FEATURE(
                "none", "") "," FEATURE("default",
                                        "{'name': 'default'}") "," FEATURE("users", "{'name': 'userWithId', 'parameters': {'userIds': 'u1 ,u2,'}}") "," FEATURE("no-users",
                                                                                                                                                                "{'name': 'userWithId', 'parameters': {}}") "," FEATURE("address", "{'name': 'remoteAddress', 'parameters': {'IPs': '10.1.2.3, 10.2.0.0/16'}}") "," FEATURE("zero", "{'name': 'flexibleRollout', 'parameters': {'rollout': '0', 'stickiness': 'default'}}") "," FEATURE("full", "{'name': 'flexibleRollout', 'parameters': {'rollout': '100', 'stickiness': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                "'default'}}") "," FEATURE("full-user", "{'name': 'flexibleRollout', 'parameters': {'rollout': 100, "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "'stickiness': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "'userId'}}") "," FEATURE("off-all",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "{'name': 'default', 'disabled': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "true}") "," FEATURE("segment",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "{'name': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "'default', "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "'segments': "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "[1]}") "," FEATURE("no"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "-s"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "eg"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "me"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "t",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "{'"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "na"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "me"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "':"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           " '"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "de"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "fa"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "ul"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "t'"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           ", "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "'s"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "eg"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "me"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "nt"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "s'"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           ": "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "[9"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "]"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "}") ","
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "{'name': 'dark', 'enabled': false, 'strategies': [{'name': 'default'}]}], 'segments': [{'id': 1, "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                "'name': 's', 'constraints': [" VALUES(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                    "city", "IN", "'a'") "]}]}";
    static const struct expectation ROWS[] = {
        {"none", "{}", "true"},
        {"default", "{}", "true"},
        {"users", "{'targetingKey':'u1'}", "true"},
        {"users", "{'targetingKey':'u3'}", "false"},
        {"users", "{'targetingKey':''}", "true"}, // the list ends with an empty name
        {"no-users", "{'targetingKey':'u1'}", "false"},
        {"address", "{'remoteAddress':'10.1.2.3'}", "true"},
        {"address", "{'remoteAddress':'10.2.9.9'}", "true"},
        {"address", "{'remoteAddress':'10.20.9.9'}", "false"},
        {"address", "{'remoteAddress':'10.1.2.30'}", "false"},
        {"address", "{}", "false"},
        {"zero", "{'targetingKey':'u'}", "false"},
        {"full", "{}", "true"},
        {"full-user", "{'targetingKey':'u'}", "true"},
        {"full-user", "{}", "false"},
        {"off-all", "{}", "false"},
        {"segment", "{'city':'a'}", "true"},
        {"segment", "{'city':'b'}", "false"},
        {"no-segment", "{'city':'a'}", "false"},
        {"dark", "{}", "false"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "no-segment", "segment", true));
    assert_int_equal(world_lost(&world), 1);
    world_free(&world);
}

TEST(unknown_stays_off)
{
    static const char SOURCE[] = "{'features': [" CONSTRAINED("regex", VALUE(
                                                                           "email", "REGEX", "^a.*$")) "," CONSTRAINED("regex-plain", VALUE("email", "REGEX", "^ab$")) "," CONSTRAINED("any-case", "{'contextName': 'city', 'operator': 'STR_CONTAINS', 'values': ['ab'], "
                                                                                                                                                                                                   "'caseInsensitive': true}") "," CONSTRAINED("any-case-not", "{'contextName': 'city', 'operator': 'STR_CONTAINS', 'values': ['ab'], "
                                                                                                                                                                                                                                                               "'caseInsensitive': true, 'inverted': true}") "," CONSTRAINED("any-case-in", "{'contextName': 'city', 'operator': 'NOT_IN', 'values': ['ab'], "
                                                                                                                                                                                                                                                                                                                                            "'caseInsensitive': true}") "," CONSTRAINED("date", VALUE("born",
                                                                                                                                                                                                                                                                                                                                                                                                      "DATE_AFTER", "2020-01-01T00:00:00Z")) "," CONSTRAINED("operator", INVERTED("city",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                  "NOT_AN_OPERATOR", "'x'")) "," CONSTRAINED("dotted",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                             VALUES(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 "a.b",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 "NOT_IN",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                 "'x'")) "," FEATURE("custom",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "{'name': 'mine', 'parameters': {}}") "," FEATURE("host",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "{'name': 'applicationHostname', 'parameters': {'hostNames': 'h'}}") "," FEATURE("network",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                        "{'name': 'remoteAddress', 'parameters': {'IPs': '10.0.0.0/9'}}") "," FEATURE("custom-or",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      "{'name': 'mine'}, {'name': 'userWithId', 'parameters': {'userIds': 'u'}}") "]}";
    static const struct expectation ROWS[] = {
        {"regex", "{'email':'ab'}", "false"},
        {"regex-plain", "{'email':'ab'}", "true"},
        {"regex-plain", "{'email':'abc'}", "false"},
        {"any-case", "{'city':'ab'}", "false"},
        {"any-case-not", "{'city':'x'}", "false"},
        {"any-case-in", "{'city':'AB'}", "true"}, // IN and NOT_IN know of no case
        {"date", "{'born':'2021-01-01T00:00:00Z'}", "false"},
        {"operator", "{'city':'y'}", "false"},
        {"dotted", "{}", "false"},
        {"custom", "{}", "false"},
        {"host", "{'hostname':'h'}", "false"},
        {"network", "{'remoteAddress':'10.1.1.1'}", "false"},
        {"custom-or", "{'targetingKey':'u'}", "true"},
        {"custom-or", "{'targetingKey':'w'}", "false"},
    };
    static const char *const LOST[] = {"regex",  "any-case", "any-case-not", "date",    "operator",
                                       "dotted", "custom",   "host",         "network", "custom-or"};
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    for (size_t i = 0; i < ARRAY_LEN(LOST); i++)
        assert_true(world_found(&world, LOST[i], "does not turn the flag on", true));
    assert_int_equal(world_lost(&world), ARRAY_LEN(LOST));
    world_free(&world);
}

TEST(shares)
{
    static const char SOURCE[] = "{'features': [" FEATURE(
        "flexible",
        "{'name': 'flexibleRollout', 'parameters': {'rollout': '30', "
        "'stickiness': 'default', 'groupId': 'g'}}") "," FEATURE("user",
                                                                 "{'name': 'gradualRolloutUserId', "
                                                                 "'parameters': {'percentage': '30', "
                                                                 "'groupId': 'g2'}}") "," FEATURE("sessio"
                                                                                                  "n",
                                                                                                  "{'"
                                                                                                  "name':"
                                                                                                  " '"
                                                                                                  "gradua"
                                                                                                  "lRollo"
                                                                                                  "utSess"
                                                                                                  "ionId'"
                                                                                                  ", "
                                                                                                  "'param"
                                                                                                  "eters'"
                                                                                                  ": "
                                                                                                  "{'"
                                                                                                  "percen"
                                                                                                  "tage':"
                                                                                                  " '30'}"
                                                                                                  "}") "," FEATURE("random",
                                                                                                                   "{'name': 'gradualRolloutRandom', 'parameters': {'percentage': '30'}}") "," FEATURE("custom",
                                                                                                                                                                                                       "{'name': 'flexibleRollout', 'parameters': {'rollout': '30', 'stickiness': "
                                                                                                                                                                                                       "'company'}}") "]}";
    static const char *const FLAGS[] = {"flexible", "user", "session", "random", "custom"};
    static const struct expectation ROWS[] = {
        {"user", "{'sessionId':'s'}", "false"},
        {"session", "{'targetingKey':'s'}", "false"},
        {"custom", "{'targetingKey':'s'}", "false"},
    };
    struct world world;
    unsigned on[5] = {0};
    char got[64];
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    for (unsigned i = 0; i < 4000; i++) {
        char context[128];
        snprintf(context, sizeof context, "{'targetingKey':'u%u','sessionId':'s%u','company':'c%u'}", i, i,
                 i);
        for (unsigned f = 0; f < 5; f++)
            on[f] += strcmp(world_answer(&world, FLAGS[f], context, 0, got, sizeof got), "true") == 0;
    }
    for (unsigned f = 0; f < 5; f++)
        assert_in_range(on[f], 1090, 1310);
    assert_true(world_found(&world, "random", "once per targeting key", false));
    world_free(&world);
}

TEST(variants)
{
    static const char SOURCE[] =
        "{'features': [{'name': 'look', 'enabled': true, 'strategies': [{'name': 'userWithId', 'parameters': "
        "{'userIds': 'u1,u2,u3'}}], 'variants': [{'name': 'red', 'weight': 500, 'payload': {'type': "
        "'string', "
        "'value': '#f00'}, 'overrides': [{'contextName': 'userId', 'values': ['u1']}]}, {'name': 'blue', "
        "'weight': 500}]},"
        "{'name': 'size', 'enabled': true, 'strategies': [], 'variants': [{'name': 'a', 'weight': 1, "
        "'payload': {'type': 'number', 'value': '1.5'}}]},"
        "{'name': 'layout', 'enabled': true, 'strategies': [{'name': 'flexibleRollout', 'parameters': "
        "{'rollout': '100'}, 'variants': [{'name': 'a', 'weight': 1, 'payload': {'type': 'json', 'value': "
        "'{\\'x\\':1}'}}]}], 'variants': []},"
        "{'name': 'dark', 'enabled': false, 'strategies': [], 'variants': [{'name': 'a', 'weight': 1}]},"
        "{'name': 'half', 'enabled': true, 'strategies': [{'name': 'flexibleRollout', 'parameters': "
        "{'rollout': '50'}}], 'variants': [{'name': 'a', 'weight': 1}, {'name': 'b', 'weight': 3}]}]}";
    static const struct expectation ROWS[] = {
        {"look", "{'targetingKey':'u1'}", "true"},
        {"look.variant", "{'targetingKey':'u1'}", "'#f00'"},
        {"look", "{'targetingKey':'u9'}", "false"},
        {"look.variant", "{'targetingKey':'u9'}", "default"},
        {"size", "{}", "true"},
        {"size.variant", "{}", "1.5"},
        {"layout", "{}", "true"},
        {"layout.variant", "{}", "{'x':1}"},
        {"dark", "{}", "false"},
        {"dark.variant", "{}", "default"},
    };
    struct world world;
    unsigned count[2] = {0};
    char got[64];
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    for (unsigned i = 0; i < 4000; i++) {
        char context[64];
        snprintf(context, sizeof context, "{'targetingKey':'u%u'}", i);
        bool on = strcmp(world_answer(&world, "half", context, 0, got, sizeof got), "true") == 0;
        world_answer(&world, "half.variant", context, 0, got, sizeof got);
        // The second flag has a variant exactly when the first is on.
        assert_int_equal(on, strcmp(got, "default") != 0);
        if (on)
            count[got[1] - 'a']++;
    }
    assert_in_range(count[0], 430, 570);
    assert_in_range(count[1], 1390, 1610);
    assert_true(world_found(&world, "look", "look.variant", false));
    world_free(&world);
}

TEST(dependencies)
{
    static const char SOURCE[] = "{'features': [" FEATURE(
        "parent",
        "{'name': 'userWithId', 'parameters': {'userIds': 'u'}}") ","
                                                                  "{'name': 'dark', 'enabled': false, "
                                                                  "'strategies': []},"
                                                                  "{'name': 'child', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'parent'}]},"
                                                                  "{'name': 'opposite', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'parent', "
                                                                  "'enabled': false}]},"
                                                                  "{'name': 'of-dark', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'dark'}]},"
                                                                  "{'name': 'without-dark', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'dark', "
                                                                  "'enabled': false}]},"
                                                                  "{'name': 'styled', 'enabled': true, "
                                                                  "'strategies': [], 'variants': [{'name': "
                                                                  "'v', 'weight': 1}]},"
                                                                  "{'name': 'of-variant', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'styled', "
                                                                  "'variants': ['v']}]},"
                                                                  "{'name': 'orphan', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'gone'}]},"
                                                                  "{'name': 'many', 'enabled': true, "
                                                                  "'strategies': [], 'dependencies': "
                                                                  "[{'feature': 'styled', "
                                                                  "'variants': ['v', 'w']}]}]}";
    static const struct expectation ROWS[] = {
        {"child", "{'targetingKey':'u'}", "true"},
        {"child", "{'targetingKey':'w'}", "false"},
        {"opposite", "{'targetingKey':'u'}", "false"},
        {"opposite", "{'targetingKey':'w'}", "true"},
        {"of-dark", "{}", "false"},
        {"without-dark", "{}", "true"},
        {"of-variant", "{}", "true"},
        {"orphan", "{}", "false"},
        {"many", "{}", "false"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "orphan", "prerequisite", true));
    assert_true(world_found(&world, "many", "one of several variants", true));
    world_free(&world);
}

static const char EXPORT[] =
    "{'features': [{'name': 'f', 'type': 'release', 'project': 'p', 'description': 'text', 'stale': true}, "
    "{'name': 'g', 'type': 'release'}], 'featureStrategies': [{'name': 'userWithId', 'featureName': 'f', "
    "'environment': 'dev', 'parameters': {'userIds': 'd'}}, {'name': 'userWithId', 'featureName': 'f', "
    "'environment': 'prod', 'parameters': {'userIds': 'p'}, 'segments': [4]}, {'name': 'default', "
    "'featureName': 'g', 'environment': 'dev'}], 'featureEnvironments': [{'featureName': 'f', 'environment': "
    "'dev', 'enabled': true, 'variants': [{'name': 'v', 'weight': 1000}]}, {'featureName': 'f', "
    "'environment': 'prod', 'enabled': true}, {'featureName': 'g', 'environment': 'dev', 'enabled': true}], "
    "'segments': [{'id': 4, 'name': 's'}], 'featureTags': [{'featureName': 'f', 'tagType': 'simple', "
    "'tagValue': 't'}], 'tagTypes': []}";

TEST(exported)
{
    static const struct expectation DEV[] = {
        {"f", "{'targetingKey':'d'}", "true"},
        {"f", "{'targetingKey':'p'}", "false"},
        {"f.variant", "{'targetingKey':'d'}", "'v'"},
        {"g", "{}", "true"},
    };
    static const struct expectation PROD[] = {{"f", "{'targetingKey':'p'}", "false"}, {"g", "{}", "false"}};
    struct world world;
    struct flags_info info;
    world_convert_for(&world, EXPORT, CONVERT_AUTO, "dev");
    world_expect(&world, DEV, ARRAY_LEN(DEV));
    assert_true(flags_image_find(&world.set, SLICE("f"), &info));
    assert_non_null(memmem(info.metadata.data, info.metadata.len, "\"tags\":\"t\"", 10));
    assert_int_equal(world_lost(&world), 0);
    world_free(&world);
    world_convert_for(&world, EXPORT, CONVERT_UNLEASH, "prod");
    world_expect(&world, PROD, ARRAY_LEN(PROD));
    assert_true(world_found(&world, "g", "not in this environment", true));
    assert_true(world_found(&world, "f", "segment", true));
    world_free(&world);
}

TEST(refusals)
{
    static const struct {
        const char *source;
        const char *text;
    } CASES[] = {
        {"", "1:0"},
        {"{'features': [}", "1:"},
        {"{'nothing': 1}", "no format known"},
        {"{'features': [], 'features': []}", "duplicate"},
        {"{'flags': {'a': {'state': 'ENABLED', 'variants': {}}}}", "1:"},
        {"3", "1:"},
    };
    struct convert_result result;
    struct convert_options options = {.format = CONVERT_AUTO};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        char *json = quoted(CASES[i].source);
        assert_int_equal(convert_flags(slice_of(json), &options, &result), STATUS_INVALID);
        assert_int_equal(result.finding_count, 1);
        if (strstr(result.findings[0].text, CASES[i].text) == NULL)
            fail_msg("case %zu: %s", i, result.findings[0].text);
        convert_result_free(&result);
        heap_free(json);
    }
    char *json = quoted(EXPORT);
    assert_int_equal(convert_flags(slice_of(json), &options, &result), STATUS_INVALID);
    assert_non_null(strstr(result.findings[0].text, "dev, prod"));
    convert_result_free(&result);
    heap_free(json);
}

TEST(too_large)
{
    struct convert_result result;
    struct convert_options options = {.format = CONVERT_AUTO};
    assert_int_equal(convert_flags((struct slice){"", (64u << 20) + 1}, &options, &result), STATUS_RANGE);
    assert_int_equal(result.finding_count, 1);
    convert_result_free(&result);
}

TEST(flagd_passes)
{
    static const char SOURCE[] =
        "{'flags': {'a': {'state': 'ENABLED', 'variants': {'on': true, 'off': false}, 'defaultVariant': "
        "'off', "
        "'targeting': {'if': [{'==': [{'var': 'x'}, 1]}, 'on']}, 'x-sluice': {'targets': {'on': ['u']}}}}}";
    static const struct expectation ROWS[] = {
        {"a", "{'x':1}", "true"}, {"a", "{}", "false"}, {"a", "{'targetingKey':'u'}", "true"}};
    struct world world;
    world_convert(&world, SOURCE);
    assert_int_equal(world.result.finding_count, 0);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    world_free(&world);
}

// The name of a flag that is refused stands in what was compiled, which must outlive what is told of it.
TEST(flagd_refused)
{
    static const char SOURCE[] =
        "{\"flags\": {\"rests\": {\"state\": \"ENABLED\", \"variants\": {\"on\": true}, \"defaultVariant\": "
        "\"on\", "
        "\"x-sluice\": {\"prerequisites\": [{\"flag\": \"gone\", \"variant\": \"on\"}]}}}}";
    struct convert_result result;
    struct convert_options options = {.format = CONVERT_AUTO};
    assert_int_equal(convert_flags((struct slice){SOURCE, sizeof SOURCE - 1}, &options, &result),
                     STATUS_INVALID);
    assert_int_equal(result.finding_count, 1);
    assert_non_null(strstr(result.findings[0].text, "a prerequisite names no flag: gone"));
    convert_result_free(&result);
}

#define STRATEGY(name, constraint)                                                                           \
    "{'name': '" name "', 'enabled': true, 'strategies': [{'name': 'default', 'constraints': [" constraint   \
    "]}]"

// A feature that depends on one that depends on others is off there. One that depends on what lost a rule is
// not turned on by the loss.
TEST(dependencies_of_dependencies)
{
    static const char SOURCE[] =
        "{'version': 2, 'features': [" STRATEGY("base", "") "}," STRATEGY("middle", "") ", 'dependencies': [{'feature': 'base'}]}," STRATEGY("top", "") ", 'dependencies': [{'feature': 'middle'}]}," STRATEGY("lost", "{'contextName': 'x', 'operator': 'IN_CIDR', 'values': ['10.0.0.0/8']}") "}," STRATEGY(
            "unless",
            "") ", 'dependencies': [{'feature': 'lost', 'enabled': false}]}," STRATEGY("with",
                                                                                       "") ", 'dependencies': [{'feature': 'lost'}]}," STRATEGY("both",
                                                                                                                                                "{'contextName': 'x', 'operator': 'NOBODY_KNOWS'}") ", 'dependencies': [{'feature': 'lost', 'enabled': false}]}]}";
    static const struct expectation ROWS[] = {
        {"both", "{}", "false"},   {"middle", "{}", "true"},
        {"top", "{}", "false"},    {"lost", "{'x': '10.0.0.1'}", "false"},
        {"unless", "{}", "false"}, {"with", "{}", "false"},
    };
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "top", "depends on others", false));
    assert_true(world_found(&world, "unless", "has lost a part: the flag is killed", true));
    assert_true(world_found(&world, "both", "has lost a part: the flag is killed", true));
    assert_true(world_found(&world, "with", "has lost a part: it is off", true));
    // What is killed is off for programs too that know no kill.
    assert_non_null(strstr(world.result.json, "\"state\": \"DISABLED\""));
    world_free(&world);
}

// Missing, empty and odd values, as the vendor's SDK has them.
TEST(odd_values)
{
    static const char SOURCE[] =
        "{'version': 2, 'features': [" STRATEGY("within", "{'contextName': 'p', 'operator': 'STR_CONTAINS', 'values': [' ']}") "}," STRATEGY("empty", "{'contextName': 'p', 'operator': 'REGEX', 'value': '^$'}") "}," STRATEGY(
            "version",
            "{'contextName': 'v', 'operator': 'SEMVER_GTE', 'value': 'v1.2.0'}") "}," STRATEGY("number",
                                                                                               "{'contextName': 'n', 'operator': 'NUM_LTE', 'value': ' 7 '}") "},"
                                                                                                                                                              "{'name': 'sticky', 'enabled': true, 'strategies': [{'name': 'flexibleRollout', 'parameters': {'rollout': '100', 'stickiness': 'userId'}}]},"
                                                                                                                                                              "{'name': 'half', 'enabled': true, 'strategies': [{'name': 'flexibleRollout', 'parameters': {'rollout': '50', 'groupId': 'g'}}]},"
                                                                                                                                                              "{'name': 'tiny', 'enabled': true, 'strategies': [{'name': 'flexibleRollout', 'parameters': {'rollout': '0.9', 'stickiness': 'default'}}]},"
                                                                                                                                                              "{'name': 'pay', 'enabled': true, 'strategies': [{'name': 'default'}], 'variants': [{'name': 'v', 'weight': 1000,"
                                                                                                                                                              "  'payload': {'type': 'number', 'value': '9007199254740993'}}]}]}";
    static const struct expectation ROWS[] = {
        {"empty", "{}", "false"},
        {"empty", "{'p': ''}", "true"},
        {"within", "{}", "false"},
        {"within", "{'p': ''}", "true"},
        {"version", "{'v': '1.2.0'}", "true"},
        {"version", "{'v': '1.3'}", "false"},
        {"number", "{'n': 7}", "true"},
        {"number", "{'n': true}", "false"},
        {"sticky", "{'targetingKey': ''}", "false"},
        {"sticky", "{'targetingKey': 'u'}", "true"},
        {"tiny", "{'targetingKey': 'u'}", "false"},
        {"pay.variant", "{}", "9007199254740993"},
    };
    char of_session[32];
    char of_both[32];
    struct world world;
    world_convert(&world, SOURCE);
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    // An empty user is none: the session decides.
    for (int i = 0; i < 20; i++) {
        char alone[64];
        char both[96];
        snprintf(alone, sizeof alone, "{'sessionId': 's%d'}", i);
        snprintf(both, sizeof both, "{'targetingKey': '', 'sessionId': 's%d'}", i);
        world_answer(&world, "half", alone, 0, of_session, sizeof of_session);
        assert_string_equal(world_answer(&world, "half", both, 0, of_both, sizeof of_both), of_session);
    }
    world_free(&world);
}

// A feature that holds its environments itself, with strategies or, as lists show it, without.
TEST(nested_environments)
{
    static const char SOURCE[] =
        "{'features': [{'name': 'a', 'environments': [{'name': 'dev', 'enabled': false},"
        "{'name': 'prod', 'enabled': true, 'strategies': [{'name': 'userWithId', 'parameters': {'userIds': 'u'}}]}]},"
        "{'name': 'b', 'environments': [{'name': 'prod', 'enabled': true}]}]}";
    static const struct expectation ROWS[] = {
        {"a", "{'targetingKey': 'u'}", "true"}, {"a", "{}", "false"}, {"b", "{}", "false"}};
    struct world world;
    world_convert_for(&world, SOURCE, CONVERT_UNLEASH, "prod");
    world_expect(&world, ROWS, ARRAY_LEN(ROWS));
    assert_true(world_found(&world, "b", "does not hold its strategies", true));
    assert_int_equal(world_lost(&world), 1);
    world_free(&world);
}
