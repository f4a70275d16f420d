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

/* A string with its quotes; what is not UTF-8 becomes U+FFFD. */
void glm4v_contract_json_quote(GString *text, const char *string);

/* The shortest decimal number that reads back as the same; finite. */
void glm4v_contract_json_real(GString *text, double number);

/* Members of objects have a key; it is NULL in arrays and at the top. */
void glm4v_contract_json_open(glm4v_contract_json *json, const char *key);
void glm4v_contract_json_close(glm4v_contract_json *json);
void glm4v_contract_json_array(glm4v_contract_json *json, const char *key);
void glm4v_contract_json_array_close(glm4v_contract_json *json);
void glm4v_contract_json_string(glm4v_contract_json *json, const char *key, const char *value);
void glm4v_contract_json_count(glm4v_contract_json *json, const char *key, uint64_t value);
void glm4v_contract_json_number(glm4v_contract_json *json, const char *key, double value);
void glm4v_contract_json_bool(glm4v_contract_json *json, const char *key, bool value);

#endif
