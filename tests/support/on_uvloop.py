"""A plugin of pytest (`-p tests.support.on_uvloop`): tests run on the loop that the services run on."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
