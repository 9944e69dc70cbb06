/* Pages whose every word is known, and numbers that look random but are the same in every run. */

#ifndef PATTERN_H
#define PATTERN_H

#include "library.h"

enum { WORDS = PAGE_BYTES / 4 };

/* xorshift (Marsaglia 2003); the state is never 0. */
static inline u32 random(u32 *state)
{
    u32 x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

static inline u32 random_seed(u32 seed) { return seed * 2654435761u | 1; }

/* What a page holds is said by three numbers: word i = key + i * step, both made of them. */
struct content { u32 seed, page, generation; };

static inline u32 content_key(struct content c) { return (c.seed << 20 ^ c.page) * 2654435761u + c.generation * 40503; }
static inline u32 content_step(struct content c) { return content_key(c) * 2 + 1; }

static inline void page_fill(u32 *page, struct content content)
{
    u32 value = content_key(content), step = content_step(content);
    for (u32 i = 0; i < WORDS; i++, value += step)
        page[i] = value;
}

/* Words that are not as they should be. */
static inline u32 page_wrong(const u32 *page, struct content content)
{
    u32 value = content_key(content), step = content_step(content), wrong = 0;
    for (u32 i = 0; i < WORDS; i++, value += step)
        wrong += page[i] != value;
    return wrong;
}

#endif
