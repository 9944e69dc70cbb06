/* netstat: who this is on the network, and what has become of the frames; what has never happened is left out. */

#include "network.h"

int main(void)
{
    struct net_info info;
    struct counter each;
    int answer = net_info(&info);
    if (answer < 0)
        return report("netstat", answer);
    print("address " ADDRESS_FORMAT "\n", ADDRESS_PARTS(info.address));
    if (info.gateway)
        print("gateway " ADDRESS_FORMAT "\n", ADDRESS_PARTS(info.gateway));
    for (u32 i = 0; net_counter(i, &each) == 0; i++)
        if (each.value)
            print("%s %u\n", each.name, each.value);
    return 0;
}
