"""What forms do: each change, and where the browser goes then."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import Response

from durably import ConflictError, Run, ValidationError
from durably_web import answers, wording
from durably_web.auth import RunOperation, TriggerRequest
from durably_web.bulk import MOST, BulkAction, Matching, apply
from durably_web.components.panels import RunPanel
from durably_web.components.props import from_query
from durably_web.components.run import RunActions
from durably_web.components.triggering import ButtonShown, Mode, TriggerButton, TriggerForm
from durably_web.kit import Kit
from durably_web.notices import QUESTIONS, Question, notice
from durably_web.pages import Pages
from durably_web.search import Search
from durably_web.sent import Form, Sent
from durably_web.urls import with_query
from durably_web.visits import Visit

FAR: Final = "Of these, the ones that the list's search looks at, which are the newest. "
WHICH: Final[Mapping[BulkAction, str]] = {
    "retry": "Failed and cancelled runs",
    "cancel": "Runs that have not ended",
}


class Actions:
    """Carries out what forms ask for, as the visitor."""

    def __init__(self, kit: Kit, pages: Pages) -> None:
        self._kit = kit
        self._pages = pages

    async def act(self, visit: Visit, run_id: str, action: RunOperation) -> Response:
        """Do one thing with one run."""
        form = await Form.of(visit.request)
        run = await visit.caller.run(run_id, action)
        question = QUESTIONS.get(action)
        if question is not None and form.get("confirmed") != "yes":
            return self._ask(visit, run, action, question, form)
        try:
            return await self._done(visit, run, action, form)
        except ConflictError:
            return await self._shown(visit, run_id, form, "conflict")

    async def signal(self, visit: Visit, run_id: str) -> Response:
        """Send a signal to a run."""
        form = await Form.of(visit.request)
        run = await visit.caller.run(run_id, "signal")
        try:
            payload: object = json.loads(form.get("payload") or "null")
        except (ValueError, RecursionError):
            return await self._shown(visit, run.id, form, "no-json")
        try:
            await visit.caller.signal(run.id, form.get("name"), payload)
        except ConflictError:
            return await self._shown(visit, run.id, form, "conflict")
        return await self._shown(visit, run.id, form, "signalled")

    async def trigger(self, visit: Visit, job_name: str) -> Response:
        """Trigger a run by a job's form; or show the form otherwise."""
        await visit.check_job(job_name)
        form = await Form.of(visit.request)
        props = [("job", job_name), *visit.request.query_params.multi_items()]
        sent = Sent.of(form, from_query(TriggerForm, props), visit)
        if sent.shows is not None:
            return await self._form(visit, sent, mode=sent.shows)
        if sent.problems:
            return await self._form(visit, sent, problems=sent.problems)
        try:
            run = await visit.caller.trigger(sent.request())
        except ValidationError as error:
            return await self._form(visit, sent, problems=error.reasons or {"": str(error)})
        return await self._triggered(visit, run, form)

    async def press(self, visit: Visit) -> Response:
        """Trigger what a button says, which nobody but the application could have written."""
        form = await Form.of(visit.request)
        token = form.get("token")
        sealed = visit.seal.open(token)
        wanted = TriggerRequest(
            job_name=sealed.job, input=sealed.input, idempotency_key=sealed.idempotency_key
        )
        run = await visit.caller.trigger(wanted)
        if not answers.is_htmx(visit.request):
            return self._on(visit, run, form)
        label = form.get("label")
        shown = ButtonShown(token=token, label=label, run=run, notice=notice(_what(run)))
        inside = self._kit.fill(TriggerButton(token, label), shown, visit)
        return answers.fragment(inside, headers={"hx-trigger": "dw-resync"})

    async def _form(
        self,
        visit: Visit,
        sent: Sent,
        *,
        problems: Mapping[str, str] | None = None,
        mode: Mode | None = None,
    ) -> Response:
        """The form again, with what was sent in it."""
        shown = sent.again(visit, problems=problems or {}, mode=mode)
        status = 422 if problems else 200
        if answers.is_htmx(visit.request):
            inside = self._kit.fill(sent.component, shown, visit)
            return answers.fragment(inside, status=status)
        return await self._pages.job(visit, sent.component.job, form=shown, status=status)

    async def _triggered(self, visit: Visit, run: Run, form: Form) -> Response:
        if answers.is_htmx(visit.request):
            return answers.fragment(await self._kit.render(RunPanel(run.id), visit))
        return self._on(visit, run, form)

    def _on(self, visit: Visit, run: Run, form: Form) -> Response:
        """Back to the page of the form, or to the run's."""
        page = answers.back(form.get("next"), visit.urls.run(run.id))
        return _told(visit, page, _what(run))

    async def bulk(self, visit: Visit) -> Response:
        """Retry or cancel the selected runs, those of them where that makes sense."""
        form = await Form.of(visit.request)
        wanted = form.get("action")
        action: BulkAction | None = "retry" if wanted == "retry" else "cancel" if wanted == "cancel" else None
        if action is None:
            raise HTTPException(400, "Runs can be retried or cancelled")
        page = answers.back(form.get("next"), visit.urls.runs())
        if form.get("scope") == "all":
            return await self._all_matching(visit, form, action, page)
        chosen = list(dict.fromkeys(form.all("run")))
        if len(chosen) > MOST:
            raise HTTPException(400, f"At most {MOST} runs can be retried or cancelled at once")
        if not chosen:
            return answers.go(_noticed(page, "nothing"))
        if form.get("confirmed") != "yes":
            word = action.capitalize()
            return self._pages.question(
                visit,
                Question(
                    text=f"{word} {wording.many(len(chosen), 'selected run')}?",
                    detail="Those where it makes no sense any more are left alone.",
                    word=word,
                ),
                action=visit.urls.bulk(),
                back=page,
                fields=[("action", action), ("next", page), *(("run", one) for one in chosen)],
            )
        tally = await apply(visit, action, chosen)
        return _told(visit, page, _counted(action, tally.done, tally.known))

    async def _all_matching(self, visit: Visit, form: Form, action: BulkAction, page: str) -> Response:
        """Retry or cancel all runs that fit the question that the form asks."""
        asked = Search.from_query(QueryParams(list(form.pairs)))
        search = asked.settled(visit.now)
        matching = Matching.of(visit, action, search)
        most = min(form.number("most") or 0, MOST)
        if form.get("confirmed") == "yes" and most:
            tally = await matching.apply(most=most)
            return _told(visit, page, _counted(action, tally.done, most))
        count, has_more = await matching.count()
        if not count:
            return answers.go(_noticed(page, "none-match"))
        word = action.capitalize()
        which = f"the newest {count:,} of the runs" if has_more else wording.many(count, "run")
        those = ": ".join(filter(None, [WHICH[action], asked.words(visit.now)]))
        return self._pages.question(
            visit,
            Question(
                text=f"{word} {which} that match?",
                detail=f"{those}. {FAR if matching.wanted.text else ''}What has changed by then is left alone, "
                f"and so is what comes new. At most {MOST:,} at once.",
                word=word if action == "retry" else "Cancel runs",
            ),
            action=visit.urls.bulk(),
            back=page,
            fields=[
                ("scope", "all"),
                ("action", action),
                ("next", page),
                *((key, value) for key, value in search.query if value),
                *(("status", status) for status in search.status),
                ("most", str(count)),
            ],
        )

    def _ask(self, visit: Visit, run: Run, action: RunOperation, question: Question, form: Form) -> Response:
        return self._pages.question(
            visit,
            replace(question, detail=f"{run.job_name} {run.id}. {question.detail}"),
            action=visit.urls.of_run(run.id, action),
            back=answers.back(form.get("next"), visit.urls.run(run.id)),
            fields=[("next", form.get("next"))] if form.get("next") else [],
        )

    async def _done(self, visit: Visit, run: Run, action: RunOperation, form: Form) -> Response:
        match action:
            case "cancel":
                await visit.caller.cancel(run.id)
                return await self._shown(visit, run.id, form, "cancelled")
            case "retry":
                await visit.caller.retry(run.id)
                return await self._shown(visit, run.id, form, "retried")
            case "retrigger":
                new = await visit.caller.retrigger(run.id)
                return await self._shown(visit, new.id, form, "retriggered")
            case "delete":
                await visit.caller.delete_run(run.id)
                page = answers.back(form.get("next"), visit.urls.runs())
                return _told(visit, page, "deleted")
            case _:
                raise HTTPException(404, "There is no such action")

    async def _shown(self, visit: Visit, run_id: str, form: Form, code: str) -> Response:
        """Back to the page the form was on, or its part of it where a script asked."""
        if not answers.is_htmx(visit.request):
            page = answers.back(form.get("next"), visit.urls.run(run_id))
            return _told(visit, page, code)
        buttons = RunActions(run_id)
        shown = await buttons.show(visit, await visit.caller.run(run_id), code=code)
        inside = self._kit.fill(buttons, shown, visit)
        # Everything on the page fetches itself anew.
        visit.recent.forget()
        return answers.fragment(inside, headers={"hx-trigger": "dw-resync"})


def _what(run: Run) -> str:
    """The code of what a trigger did."""
    return run.disposition if run.disposition in {"idempotent", "coalesced"} else "triggered"


def _told(visit: Visit, page: str, code: str) -> Response:
    """On to a page that says what was done, and counts anew."""
    visit.recent.forget()
    return answers.go(_noticed(page, code))


def _noticed(page: str, code: str) -> str:
    path, _, query = page.partition("?")
    kept = [(key, value) for key, value in parse_qsl(query) if key != "notice"]
    return with_query(path, [*kept, ("notice", code)])


def _counted(action: BulkAction, done: int, of: int) -> str:
    return f"{'retried' if action == 'retry' else 'cancelled'}-{done}-of-{of}"
