"""Several stores on one database, as several processes have them."""

import asyncio

from durably_testing.conformance.stage import OpenAnother


class SharingContract:
    """Several stores on one database, as several processes have them."""

    async def test_of_many_triggers_from_several_processes_exactly_one_creates(
        self, another: OpenAnother
    ) -> None:
        stages = [await another() for _ in range(4)]
        runs = await asyncio.gather(
            *(
                stage.trigger(f"{number}-{turn}", idempotency_key="i")
                for turn in range(10)
                for number, stage in enumerate(stages)
            )
        )
        assert len({run.id for run in runs}) == 1
        assert [run.disposition for run in runs].count("created") == 1

    async def test_of_many_at_once_exactly_one_is_created(self, another: OpenAnother) -> None:
        stages = [await another() for _ in range(4)]
        answers = await asyncio.gather(
            *(
                stage.store.enqueue([stage.new(f"{number}-{turn}", concurrency_key="k", coalesce="skip")])
                for turn in range(10)
                for number, stage in enumerate(stages)
            )
        )
        runs = [run for answer in answers for run in answer.runs]
        assert len({run.id for run in runs}) == 1
        assert sorted(run.disposition or "" for run in runs) == ["coalesced"] * 39 + ["created"]

    async def test_of_many_replacements_exactly_one_is_left(self, another: OpenAnother) -> None:
        stages = [await another() for _ in range(4)]
        await asyncio.gather(
            *(
                stage.store.enqueue([stage.new(f"{number}-{turn}", concurrency_key="k", coalesce="replace")])
                for turn in range(10)
                for number, stage in enumerate(stages)
            )
        )
        statuses = [await stages[0].status(id) for id in await stages[0].ids()]
        assert sorted(statuses) == ["cancelled"] * 39 + ["pending"]
        assert len(await stages[0].claim()) == 1

    async def test_claimers_of_several_processes_share_out_the_runs(self, another: OpenAnother) -> None:
        stages = [await another() for _ in range(4)]
        await stages[0].store.enqueue([stages[0].new() for _ in range(60)])
        answers = await asyncio.gather(
            *(stage.claim(f"w{number}", limit=2) for _ in range(10) for number, stage in enumerate(stages))
        )
        got = [id for answer in answers for id in answer]
        assert len(got) == len(set(got)) == 60

    async def test_a_reader_sees_what_was_acknowledged(self, another: OpenAnother) -> None:
        ours, theirs = await another(), await another()
        for number in range(30):
            await ours.trigger(f"{number}")
            assert await theirs.status(f"{number}") == "pending"
