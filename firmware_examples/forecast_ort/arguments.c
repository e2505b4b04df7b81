#include "arguments.h"

#include <string.h>

bool fc_read_key(const char *hex, uint8_t key[32])
{
    static const char digits[] = "0123456789abcdef";
    if (strlen(hex) != 64) return false;
    for (int i = 0; i < 64; i++) {
        char c = hex[i] >= 'A' && hex[i] <= 'F' ? (char)(hex[i] - 'A' + 'a') : hex[i];
        const char *at = strchr(digits, c);
        if (at == NULL) return false;
        int nibble = (int)(at - digits);
        key[i / 2] = (uint8_t)(i % 2 == 0 ? nibble << 4 : key[i / 2] | nibble);
    }
    return true;
}

bool fc_read_count(const char *text, uint64_t least, uint64_t most, uint64_t *count)
{
    *count = 0;
    if (*text == '\0') return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (*count > (UINT64_MAX - digit) / 10) return false;
        *count = *count * 10 + digit;
    }
    return *count >= least && *count <= most;
}
