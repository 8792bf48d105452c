# objects.c takes in whichever objects there are: it is built again when another one comes.
$(B)/obj/loader/kernel/objects.o: $(SKELS)
