#include "arguments.h"

#include "etsa.h"

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

bool fc_read_duration(const char *text, uint64_t *us)
{
    static const struct {
        const char *unit;
        uint64_t us;
    } units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"min", 60000000}, {"h", 3600000000u}, {"d", 86400000000u}};
    char digits[20] = {0};
    size_t count = strspn(text, "0123456789");
    uint64_t number;
    *us = 0;
    if (count == 0 || count >= sizeof digits) return false;
    memcpy(digits, text, count);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(text + count, units[i].unit) != 0) continue;
        if (!fc_read_count(digits, 1, ETSA_MAX_INTERVAL / units[i].us, &number)) return false;
        *us = number * units[i].us;
        return true;
    }
    return false;
}
