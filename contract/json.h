/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON in one line without blanks. */
#ifndef GLM4V_CONTRACT_JSON_H
#define GLM4V_CONTRACT_JSON_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What is written next needs a comma before it, or none. */
typedef struct {
    GString *text;
    bool comma;
} glm4v_contract_json;

/* Members of objects have a key; it is NULL in arrays and at the top. Of strings, what is not UTF-8
 * becomes U+FFFD. */
void glm4v_contract_json_open(glm4v_contract_json *json, const char *key);
void glm4v_contract_json_close(glm4v_contract_json *json);
void glm4v_contract_json_array(glm4v_contract_json *json, const char *key);
void glm4v_contract_json_array_close(glm4v_contract_json *json);
void glm4v_contract_json_string(glm4v_contract_json *json, const char *key, const char *value);
void glm4v_contract_json_count(glm4v_contract_json *json, const char *key, uint64_t value);
void glm4v_contract_json_int(glm4v_contract_json *json, const char *key, int64_t value);
/* The shortest decimal number that reads back as the same; null if it is not finite. */
void glm4v_contract_json_number(glm4v_contract_json *json, const char *key, double value);
void glm4v_contract_json_bool(glm4v_contract_json *json, const char *key, bool value);
void glm4v_contract_json_null(glm4v_contract_json *json, const char *key);
/* value is JSON. */
void glm4v_contract_json_value(glm4v_contract_json *json, const char *key, const char *value);

#endif
