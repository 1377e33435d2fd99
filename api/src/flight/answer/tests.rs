use arrow::array::{Array, ArrayRef, Float64Array, StringArray, StringViewArray};
use arrow::compute::concat_batches;
use arrow_flight::decode::FlightRecordBatchStream;
use proptest::prelude::*;

use super::*;

async fn sent(batches: Vec<RecordBatch>) -> Vec<FlightData> {
    let schema = Arc::new(columns::sent(&batches[0].schema()));
    let batches = stream::iter(batches.into_iter().map(Ok)).boxed();
    let parts = parts(Arc::clone(&schema), batches);
    messages(schema, Box::pin(parts))
        .try_collect()
        .await
        .unwrap()
}

async fn received(messages: Vec<FlightData>) -> RecordBatch {
    let messages = stream::iter(messages.into_iter().map(Ok));
    let mut stream = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch.unwrap());
    }
    concat_batches(stream.schema().unwrap(), &batches).unwrap()
}

fn rows(texts: &[String]) -> RecordBatch {
    let numbers = (0..texts.len()).map(|at| at as f64);
    RecordBatch::try_from_iter([
        (
            "k",
            Arc::new(StringViewArray::from_iter_values(texts)) as ArrayRef,
        ),
        (
            "n",
            Arc::new(Float64Array::from_iter_values(numbers)) as ArrayRef,
        ),
    ])
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Rows of very different sizes come whole, in messages that clients take.
    #[test]
    fn messages_are_as_clients_take_them(
        lengths in prop::collection::vec(
            prop_oneof![8 => 0usize..20, 2 => 0usize..20_000, 1 => 0usize..900_000],
            0..200,
        ),
        cut in 0usize..200,
    ) {
        let texts: Vec<String> = lengths.iter().map(|n| "y".repeat(*n)).collect();
        let all = rows(&texts);
        let cut = cut.min(all.num_rows());
        let batches = vec![all.slice(0, cut), all.slice(cut, all.num_rows() - cut)];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let messages = runtime.block_on(sent(batches));
        for message in &messages {
            let bytes = message.data_body.len() + message.data_header.len();
            prop_assert!(bytes < MESSAGE_BYTES + MESSAGE_BYTES / 8, "{bytes}");
        }
        let got = runtime.block_on(received(messages));
        let expected = StringArray::from_iter_values(&texts);
        prop_assert_eq!(got.column(0).as_ref(), &expected as &dyn Array);
        prop_assert_eq!(got.column(1), all.column(1));
    }
}

#[tokio::test]
async fn a_row_is_never_cut_and_an_empty_answer_has_a_schema() {
    let large = "y".repeat(3 * MESSAGE_BYTES);
    let messages = sent(vec![rows(&["a".to_owned(), large, "b".to_owned()])]).await;
    assert_eq!(messages.len(), 4);
    assert_eq!(received(messages).await.num_rows(), 3);
    let messages = sent(vec![rows(&[])]).await;
    assert_eq!(messages.len(), 1);
}

#[tokio::test]
async fn many_small_rows_are_few_messages() {
    let batches = vec![rows(&vec![String::from("host-1"); 8192]); 100];
    let messages = sent(batches).await;
    assert!((50..=110).contains(&messages.len()), "{}", messages.len());
}
